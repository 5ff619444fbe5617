"""A pass dies at every point of every step of a roll-out: the next pass takes the step once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from portfolios.models import Portfolio, Revision
from scheduling import operations
from scheduling.db import failpoints
from scheduling.db.failpoints import ConnectionCut
from scheduling.models import Handoff
from scheduling.passes.roll_outs import advance
from scheduling.timing import timing
from tests.support.crash_injection import Trace, rolled_back
from tests.support.factories import newest_handoff, owner
from tests.support.roll_outs import begun, pinned, reload_done, state, states, step

pytestmark = pytest.mark.django_db


def crash_everywhere(act: Callable[[], Any], check: Callable[[], None]) -> int:
    """Cut the connection at each point of `act` in turn, let the next pass go on, and check."""
    trace = Trace()
    with rolled_back(), failpoints.hook_installed(trace):
        act()
    for crash in trace.crashes(range(1, len(trace.points) + 1)):
        with rolled_back():
            with pytest.raises(ConnectionCut), failpoints.hook_installed(crash):
                act()
            crash.compare_rows()
            if not crash.is_tested:
                step()
                check()
    return len(trace.points)


def test_crash_while_an_item_starts_starts_it_once() -> None:
    _, number = begun("a", "b")

    def check() -> None:
        assert states(number) == {"a": "changing", "b": "waiting"}
        made = Revision.objects.filter(artifact__version="2.0")
        assert list(made.values_list("number", flat=True)) == [2]
        assert Handoff.objects.filter(kind="reload").count() == 1

    assert crash_everywhere(lambda: advance("test", timing()), check) > 10


def test_a_rejection_stops_the_whole_roll_out_whenever_a_process_crashes_after_it() -> None:
    node, number = begun("a", "b")
    step()
    node.fails(newest_handoff(owner("a", node).portfolio), strategy=True)

    def check() -> None:
        assert states(number) == {"a": "rejected", "b": "skipped"}
        assert state(number) == "stopped"

    assert crash_everywhere(lambda: advance("test", timing()), check) > 5


def test_crash_during_the_way_back_returns_each_portfolio_once() -> None:
    node, number = begun("a", "b", canary_seconds=0)
    step()
    reload_done("a", node)
    step()
    reload_done("b", node)
    step()
    operations.return_roll_out(number, actor="ann")

    def check() -> None:
        assert states(number) == {"a": "returning", "b": "returning"}
        assert [pinned(name) for name in "ab"] == ["1.0", "1.0"]
        assert list(Portfolio.objects.values_list("revision", flat=True)) == [1, 1]
        assert Handoff.objects.filter(kind="reload", to_revision=1).count() == 2

    assert crash_everywhere(lambda: advance("test", timing()), check) > 20
