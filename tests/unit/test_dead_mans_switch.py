"""The thread of the dead man's switch continues after any error."""

from __future__ import annotations

import threading

import psycopg
import pytest

from scheduling import dead_mans_switch


@pytest.mark.parametrize("error", [psycopg.OperationalError("away"), ZeroDivisionError()])
def test_dead_mans_switch_checks_again_after_an_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    looked_again = threading.Event()

    def look() -> None:
        looks.append(1)
        if len(looks) == 1:
            raise error
        looked_again.set()

    monkeypatch.setattr(dead_mans_switch, "look", look)
    monkeypatch.setattr(dead_mans_switch, "LOOK_INTERVAL_S", 0.01)
    switch = dead_mans_switch.DeadMansSwitch()
    switch.start()
    assert looked_again.wait(20)
    switch.end()
