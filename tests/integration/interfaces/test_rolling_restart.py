"""A rolling restart ends no daemon whose portfolios have no other place."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from scheduling.errors import Refused
from scheduling.models import Node
from scheduling.operations import rolling_restart
from tests.support.factories import make_node, make_trader

pytestmark = pytest.mark.django_db


@pytest.fixture
def daemon() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process in place of a daemon: it waits until it is ended."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_a_node_that_does_not_get_empty_is_left_running_and_undrained(
    daemon: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling_restart, "_find", list)  # processes of this machine's developers
    node = make_node("node-1")
    make_node("node-2")
    make_trader("p", node)
    Node.objects.filter(name="node-1").update(host=socket.gethostname(), pid=daemon.pid)
    with pytest.raises(Refused, match="node-1 still runs 1 portfolio after"):
        list(rolling_restart.rolling_restart(drain_s=0.1, actor="ann"))
    assert daemon.poll() is None
    assert not Node.objects.get(name="node-1").draining


def test_an_only_node_is_restarted_without_a_drain(
    daemon: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling_restart, "_find", list)
    make_node("node-1")
    Node.objects.update(host=socket.gethostname(), pid=daemon.pid)

    def ended_and_registered_again(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        assert daemon.wait() == -signal.SIGTERM
        Node.objects.update(registrations=Node.objects.get().registrations + 1)

    monkeypatch.setattr(rolling_restart, "_end", ended_and_registered_again)
    (said,) = rolling_restart.rolling_restart(drain_s=0.1, actor="ann")
    assert said.startswith("node-1 restarted without a move: it is the only one within")
    assert not Node.objects.get().draining
