"""A rolling restart ends only daemons whose portfolios have another place, and leaves no drain."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from ginkgo_site.database import conninfo
from scheduling.db.transaction import execute
from scheduling.enact.pass_lock import HOLD_S, record_watcher_seen
from scheduling.errors import Refused
from scheduling.models import Event, Gateway, Node, PassLock
from scheduling.operations import drain, rolling_restart
from scheduling.operations.rolling_restart import is_daemon_of
from tests.support.factories import FakeNode, make_node, make_trader, serving_since
from tests.support.patches import raising

pytestmark = pytest.mark.django_db

DAEMON = ("python", "-m", "scheduling.node_daemon", "--name", "node-1")
Started = subprocess.Popen[bytes]
Start = Callable[..., Started]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a process with these words, which waits until it is ended.

    It is a shell, which starts sooner than Python, under the name of Python.
    """
    with ExitStack() as until_end:

        def started(*words: str) -> Started:
            command, pipe = ["python", "-c", "echo; read _", *words], subprocess.PIPE
            process = until_end.enter_context(
                subprocess.Popen(command, executable="/bin/sh", stdin=pipe, stdout=pipe)
            )
            until_end.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.read(1)  # its command line is there to be read
            return process

        yield started


@pytest.fixture
def daemon(node: FakeNode, start: Start, monkeypatch: pytest.MonkeyPatch) -> Started:
    """Return the process of node-1 of this host, beside which there is node-2."""
    nothing = rolling_restart.Found([], [])  # no processes of this machine's developers
    monkeypatch.setattr(rolling_restart, "_find", lambda: nothing)
    process = start(*DAEMON)
    make_node("node-2")
    Node.objects.filter(name="node-1").update(host=socket.gethostname(), pid=process.pid)
    return process


def restart(drain_s: float = 0.1) -> list[str]:
    return list(rolling_restart.rolling_restart(drain_s=drain_s, actor="ann"))


def node_1() -> Node:
    return Node.objects.get(name="node-1")


def register_again_once_ended(monkeypatch: pytest.MonkeyPatch, daemon: Started) -> None:
    """Let node-1 register again in place of a supervisor, after SIGTERM."""
    end = rolling_restart._end

    def ended(pid: int, is_meant: Any) -> None:
        end(pid, is_meant)
        daemon.wait()
        Node.objects.filter(name="node-1").update(registrations=node_1().registrations + 1)

    monkeypatch.setattr(rolling_restart, "_end", ended)


def test_a_node_that_does_not_get_empty_keeps_running_and_its_drain_is_lifted(
    daemon: Started, node: FakeNode
) -> None:
    make_trader("p", node)
    with pytest.raises(Refused, match="node-1 still runs 1 portfolio after"):
        restart()
    assert daemon.poll() is None
    assert not node_1().draining


def test_an_only_node_is_restarted_without_a_drain(
    daemon: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    Node.objects.filter(name="node-2").delete()
    register_again_once_ended(monkeypatch, daemon)
    (said,) = restart()
    assert said.startswith("node-1 was restarted within")
    assert said.endswith(" s, without a move: no other node is open.")
    assert not Event.objects.filter(kind="node_draining").exists()


def test_the_drain_of_a_rolling_restart_ends_though_its_daemon_was_killed(
    daemon: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It registers again without having left: then no drain ends by itself.
    register_again_once_ended(monkeypatch, daemon)
    assert restart()[0].startswith("node-1 was emptied and restarted within")
    assert Event.objects.filter(kind="node_draining").exists()
    assert not node_1().draining


@pytest.mark.parametrize("until_return", [False, True])
def test_a_drain_by_an_operator_remains_after_a_failed_restart(
    daemon: Started, node: FakeNode, until_return: bool
) -> None:
    make_trader("p", node)
    drain("node-1", actor="bob", reason="disk", until_return=until_return)
    with pytest.raises(Refused, match="node-1 still runs 1 portfolio after"):
        restart()
    assert (node_1().draining, node_1().drain_actor) == (True, "bob")


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), Refused("forbidden", "no")])
def test_a_drain_is_taken_back_however_the_restart_ends(
    daemon: Started, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(*_: Any) -> None:
        assert node_1().draining
        raise failure

    monkeypatch.setattr(rolling_restart, "_end", fail)
    with pytest.raises(type(failure)):
        restart()
    assert not node_1().draining


@pytest.mark.django_db(transaction=True)
def test_a_drain_is_taken_back_though_its_database_session_was_lost(
    daemon: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (session,) = cursor.fetchone()
        with psycopg.connect(conninfo(), autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 60000)", (session,))
        node_1()

    monkeypatch.setattr(rolling_restart, "_end", lose)
    with pytest.raises(Exception, match=r"terminat|closed"):
        restart()
    assert not node_1().draining


def test_a_pid_that_is_not_a_daemon_any_more_gets_no_signal(daemon: Started, start: Start) -> None:
    for words in (("editor",), (*DAEMON[:-1], "node-3")):
        stranger = start(*words)
        Node.objects.filter(name="node-1").update(pid=stranger.pid)
        assert restart() == []
        rolling_restart._end(stranger.pid, lambda words: is_daemon_of("node-1", words))
        stranger.communicate(b"\n")
        assert stranger.returncode == 0  # not ended by a signal


def test_restart_is_refused_before_any_change_if_the_daemon_belongs_to_another_user(
    daemon: Started, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = rolling_restart.Process("worker", start("manage.py", "qcluster").pid, time.time())
    monkeypatch.setattr(rolling_restart, "_find", lambda: rolling_restart.Found([worker], []))
    with monkeypatch.context() as patch:
        patch.setattr("os.kill", raising(PermissionError))
        with pytest.raises(Refused, match=f"node-1, process {daemon.pid}, belongs to another user"):
            restart()
    assert not Event.objects.filter(kind="node_draining").exists()


def test_restart_is_refused_if_a_control_plane_process_belongs_to_another_user(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start("python", "manage.py", "qcluster")
    monkeypatch.setattr(psutil, "process_iter", lambda: [psutil.Process(process.pid)])
    monkeypatch.setattr(psutil.Process, "environ", raising(psutil.AccessDenied))
    with pytest.raises(Refused, match=f"read: worker {process.pid}. .* run this as root"):
        restart()
    assert process.poll() is None


@pytest.mark.parametrize(
    ("served_s", "is_used", "other_used_ago_s", "works"),
    [
        (4, False, None, False),
        (6, False, None, True),  # it is the only one
        (6, False, 60, True),  # nothing is traded
        (6, False, 0, False),  # the proxy has not taken it back yet
        (4, True, 0, False),
        (6, True, 0, True),
        (31, False, 0, True),  # the proxy prefers others
    ],
)
def test_a_new_web_process_works_once_a_proxy_sends_it_requests(
    served_s: float, is_used: bool, other_used_ago_s: float | None, works: bool
) -> None:
    serving_since(served_s)
    used_at = timezone.now() if is_used else None
    Gateway.objects.update(host=socket.gethostname(), pid=7, commits_passed_at=used_at)
    if other_used_ago_s is not None:
        other = uuid4()
        serving_since(3600, gateway=other)
        passed_at = timezone.now() - timedelta(seconds=other_used_ago_s)
        Gateway.objects.filter(pk=other).update(host="b", pid=7, commits_passed_at=passed_at)
    assert rolling_restart._works([rolling_restart.Process("web", 7, time.time())]) is works


def test_a_new_process_is_proven_by_its_age_and_a_watcher_also_by_its_first_check() -> None:
    def works(kind: str, age_s: float) -> bool:
        return rolling_restart._works([rolling_restart.Process(kind, 7, time.time() - age_s)])

    proven_s = rolling_restart.PROVEN_S
    assert not rolling_restart._works([])
    for kind in ("worker", "recorder"):
        assert not works(kind, proven_s / 2)
        assert works(kind, proven_s)
    # The watcher before it looked last, which counts as running for a while.
    until = timezone.now() + timedelta(seconds=HOLD_S - 2 * proven_s)
    PassLock.objects.update_or_create(name="watcher", defaults={"holder": "w", "until": until})
    assert not works("watcher", proven_s + 1)
    assert works("watcher", 100 * proven_s)  # it has looked itself
    execute(record_watcher_seen("w"))
    assert works("watcher", proven_s + 1)
    assert not works("watcher", proven_s / 2)


def test_refusal_as_json_has_the_steps_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(**_: Any) -> Iterator[str]:
        yield "web 7 restarted within 2.0 s."
        raise Refused("wait_timeout", "node-1 still runs 4 portfolios.")

    monkeypatch.setattr("scheduling.management.commands.rolling_restart.rolling_restart", steps)
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("rolling_restart", json=True, stdout=out)
    document = json.loads(out.getvalue())
    assert (document["code"], document["steps"]) == (
        "wait_timeout",
        ["web 7 restarted within 2.0 s."],
    )
