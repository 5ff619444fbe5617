"""Restart the processes of an installation on this host, one after the other.

Each process is asked to end, and its supervisor (systemd, `bin/up`) starts a new one with the code
that the checkout has now. The next process is asked once the new one works.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import psutil
import psycopg
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models.functions import Now

from ginkgo_site.env import InvalidSetting, read_environment
from scheduling.db.transaction import execute
from scheduling.decide.reasons import count
from scheduling.enact import node_marks
from scheduling.enact.pass_lock import HOLD_S
from scheduling.errors import Refused
from scheduling.models import Node, NodeStatus, PassLock, Run
from scheduling.observe.control_plane import GatewayRow, read_control_plane

#: For a process to end, its supervisor to start another, and that one to work, on a busy machine.
LIMIT_S = 120.0
#: A web process whose pulse is younger than this works.
RECENT_S = 3.0
#: A web process that has served for so long gets requests from its proxy. The proxy asks each
#: second whether it is ready and wants two such answers in a row; the process can give the first
#: after its durable write test, which takes up to two seconds.
ADMITTED_S = 5.0
#: On a busy machine a proxy may take longer. So, if other web processes took a commit within
#: COMMITS_COME_S, the new one must have taken one too, or have served for UNUSED_S: a proxy may
#: have a reason of its own to send it none.
UNUSED_S, COMMITS_COME_S = 30.0, 10.0
#: A process that has lived for so long works: one with a wrong setting ends sooner.
PROVEN_S = 2 * RECENT_S
POLL_S = 0.2  #: between two looks whether a step is done
#: For how long ending a drain is tried again while the database restarts.
TAKE_BACK_S = 20.0
REASON = "rolling restart"

#: Kind of process → words that its command line has, in the order in which kinds are restarted.
KINDS: dict[str, tuple[str, ...]] = {
    "web": ("ginkgo_site.asgi:application",),
    "watcher": ("manage.py", "run_watcher"),
    "worker": ("manage.py", "qcluster"),
    "recorder": ("manage.py", "feed", "record"),
}
NODE_DAEMONS: tuple[tuple[str, ...], ...] = (("scheduling.node_daemon",), ("manage.py", "run_node"))


class Process(NamedTuple):
    """A process that no other of its kind forked; `pid` and `began` together are never reused."""

    kind: str  #: a key of KINDS
    pid: int
    began: float  #: Unix time in seconds


class Found(NamedTuple):
    """The main processes of control planes on this host."""

    ours: list[Process]  #: of this installation
    unreadable: list[Process]  #: of other users, perhaps of this installation


def kind_of(command_line: list[str]) -> str | None:
    """Return the kind of a control-plane process by its command line, or None."""
    return next((kind for kind, words in KINDS.items() if _has_words(command_line, words)), None)


def is_daemon_of(node: str, command_line: list[str]) -> bool:
    """Return whether this is the command line of a daemon with the name of the node."""
    is_daemon = any(_has_words(command_line, words) for words in NODE_DAEMONS)
    return is_daemon and (node in command_line or f"--name={node}" in command_line)


def _has_words(command_line: list[str], needed: tuple[str, ...]) -> bool:
    """Return whether Python runs with all these words, or with paths that end in them.

    A supervisor such as `tini -- python …` or `sudo python …` has the words of the process too.
    """
    program, *words = [word.rpartition("/")[2] for word in command_line] or [""]
    return program.lower().startswith("python") and all(word in words for word in needed)


def rolling_restart(*, drain_s: float, actor: str) -> Iterator[str]:
    """Restart web processes, watchers, workers, recorders and nodes of this host, in this order.

    Yield a sentence for each step. Raise Refused, before anything is touched, if a process belongs
    to another user; later, if a process does not come back in time, or if a node is not empty
    after `drain_s`. The processes that follow have not been touched then.
    """
    processes = _find()
    if processes.unreadable:
        named = ", ".join(f"{found.kind} {found.pid}" for found in processes.unreadable)
        raise Refused(
            "forbidden",
            f"These processes belong to another user and perhaps to this installation, since their "
            f"environment cannot be read: {named}. Nothing was touched: run this as root.",
        )
    _nodes_here()  # raises Refused for a daemon of another user, before anything is touched
    for kind in KINDS:
        for process in (found for found in processes.ours if found.kind == kind):
            yield from _restart(process)
    for node in _nodes_here():
        yield from _restart_node(node, drain_s, actor)


def _find() -> Found:
    """Return the main processes of control planes on this host, without those that they forked."""
    ours: dict[int, Process] = {}
    unreadable: dict[int, Process] = {}
    parents: dict[int, int] = {}
    for process in psutil.process_iter():
        try:
            kind = kind_of(process.cmdline())
            if kind is None:
                continue
            found = Process(kind, process.pid, process.create_time())
            parents[process.pid] = process.ppid()
            try:
                if _is_ours(process):
                    ours[process.pid] = found
            except psutil.AccessDenied:
                unreadable[process.pid] = found
        except psutil.Error:
            continue  # it has ended

    def without_forked(group: dict[int, Process]) -> list[Process]:
        return [process for pid, process in sorted(group.items()) if parents[pid] not in group]

    return Found(without_forked(ours), without_forked(unreadable))


def _is_ours(process: psutil.Process) -> bool:
    """Return whether the process uses this installation's database, by its environment.

    Raise psutil.Error if that cannot be read.
    """
    try:
        return read_environment(process.environ()).database_url == settings.GINKGO.database_url
    except InvalidSetting:
        return False


def _restart(process: Process) -> Iterator[str]:
    """End a process of the control plane, wait until another works, and yield a sentence.

    Raise Refused if none works within LIMIT_S.
    """
    began_s = time.monotonic()
    siblings = {found.pid for found in _find().ours if found.kind == process.kind}
    _end(process.pid, lambda words: kind_of(words) == process.kind)

    def is_replaced() -> bool:
        same_kind = [found for found in _find().ours if found.kind == process.kind]
        return _works([found for found in same_kind if found.pid not in siblings])

    _wait_for(is_replaced, f"The {process.kind} process {process.pid} was ended")
    yield f"{process.kind} {process.pid} restarted within {time.monotonic() - began_s:.1f} s."


def _works(new: list[Process]) -> bool:
    """Return whether one of the new processes, which are of one kind, does its work."""
    if any(process.kind == "web" for process in new):
        return _one_serves(execute(read_control_plane()).gateways, {process.pid for process in new})
    ages = [(process.kind, time.time() - process.began) for process in new]
    return any(
        age_s >= PROVEN_S and (kind != "watcher" or _watcher_looked_within(age_s))
        for kind, age_s in ages
    )


def _one_serves(gateways: list[GatewayRow], pids: set[int]) -> bool:
    """Return whether one of the web processes `pids` of this host gets requests from its proxy."""
    host = socket.gethostname()
    new = [row for row in gateways if row.host == host and row.pid in pids]
    serving = [row for row in new if row.pulse_age_s < RECENT_S and row.serving_s >= ADMITTED_S]
    other_ages_s = [row.commit_age_s for row in gateways if row not in new]
    if all(age_s is None or age_s > COMMITS_COME_S for age_s in other_ages_s):
        return bool(serving)  # no commits come, so none can be expected of the new one
    # Others take commits, so the new one should have taken one, unless it served for long without.
    return any(row.commit_age_s is not None or row.serving_s >= UNUSED_S for row in serving)


def _watcher_looked_within(seconds: float) -> bool:
    """Return whether a watcher has looked for changes within the last `seconds`."""
    # The row says until when a watcher counts as running: HOLD_S after it looked.
    earliest = Now() + timedelta(seconds=HOLD_S - seconds)
    return PassLock.objects.filter(name="watcher", until__gt=earliest).exists()


def _nodes_here() -> list[Node]:
    """Return the living nodes whose daemons run on this host.

    Raise Refused if one of the daemons belongs to another user of the system.
    """
    alive = Node.objects.filter(host=socket.gethostname(), status=NodeStatus.ALIVE)
    return [node for node in alive if _runs_here(node)]


def _runs_here(node: Node) -> bool:
    """Return whether the pid that the node reported is still that of its daemon.

    Raise Refused if the daemon belongs to another user.
    """
    if node.pid is None:
        return False
    try:
        if not is_daemon_of(node.name, psutil.Process(node.pid).cmdline()):
            return False
        os.kill(node.pid, 0)  # only asks whether a signal may be sent
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    except (psutil.AccessDenied, PermissionError):
        raise _of_another_user(f"The daemon of {node.name}, process {node.pid},") from None
    return True


def _restart_node(node: Node, drain_s: float, actor: str) -> Iterator[str]:
    """Restart a node's daemon, drained before if another node takes portfolios; yield a sentence.

    Raise Refused if the node is not empty after `drain_s`, or its daemon does not come back.
    """
    began_s = time.monotonic()
    if not _runs_here(node):
        yield f"{node.name} was not touched: its daemon has ended meanwhile."
        return
    others = Node.objects.filter(status=NodeStatus.ALIVE, cordoned=False, draining=False).exclude(
        pk=node.pk
    )
    moved = others.exists()
    if moved:
        with _draining(node, actor):
            _wait_until_empty(node, drain_s)
            _restart_daemon(node)
    else:
        _restart_daemon(node)
    took = f"restarted within {time.monotonic() - began_s:.1f} s"
    if moved:
        yield f"{node.name} was emptied and {took}."
    else:
        yield f"{node.name} was {took}, without a move: no other node is open."


@contextmanager
def _draining(node: Node, actor: str) -> Iterator[None]:
    """Drain the node for the block, and end the drain however the block ends.

    A drain that an operator began before stays.
    """
    is_ours = execute(node_marks.drain(node.name, actor=actor, reason=REASON, until_return=True))
    try:
        yield
    finally:
        if is_ours:
            _end_drain(node, actor)


def _end_drain(node: Node, actor: str) -> None:
    """End the drain that this restart began.

    While the database does not answer, try again for TAKE_BACK_S, then raise Refused.
    """
    until = time.monotonic() + TAKE_BACK_S
    while True:
        try:
            execute(node_marks.take_back_drain(node.name, actor=actor, reason=REASON))
        except (DatabaseError, psycopg.Error) as error:
            if time.monotonic() > until:
                raise Refused(
                    "unavailable",
                    f"The database does not answer, and {node.name} still drains. Once the "
                    f"database answers, run `manage.py drain_node {node.name} --undo`.",
                ) from error
            connection.close()
            time.sleep(POLL_S)
        else:
            return


def _wait_until_empty(node: Node, drain_s: float) -> None:
    """Return once the node owns no portfolio. Raise Refused after `drain_s`."""
    owned = Run.objects.filter(node=node)
    try:
        _wait_for(lambda: not owned.exists(), f"{node.name} drains", limit_s=drain_s)
    except Refused as refused:
        raise Refused(
            "wait_timeout",
            f"{node.name} still runs {count(owned.count(), 'portfolio')} after {drain_s:g} s, "
            f"and was not restarted. `manage.py drain_node {node.name} --plan` says what has "
            "no place.",
        ) from refused


def _restart_daemon(node: Node) -> None:
    """End the node's daemon, and return once another, started by its supervisor, has registered.

    Raise Refused if none does within LIMIT_S.
    """
    node.refresh_from_db()  # its supervisor may have restarted it while it was emptied
    registrations = node.registrations
    if node.pid is not None:
        _end(node.pid, lambda words: is_daemon_of(node.name, words))

    def is_back() -> bool:
        now = Node.objects.get(pk=node.pk)
        return now.status == NodeStatus.ALIVE and now.registrations > registrations

    _wait_for(is_back, f"The daemon of {node.name} was ended")


def _end(pid: int, is_meant: Callable[[list[str]], bool]) -> None:
    """Ask the process `pid` to end, if `is_meant` accepts its command line: a pid may be reused.

    Raise Refused if it belongs to another user.
    """
    try:
        process = psutil.Process(pid)
        if is_meant(process.cmdline()):
            process.terminate()
    except psutil.NoSuchProcess:
        pass  # it has ended by itself
    except psutil.AccessDenied:
        raise _of_another_user(f"Process {pid}") from None


def _of_another_user(process: str) -> Refused:
    """Return the refusal of a restart for which this user may not signal `process`."""
    return Refused("forbidden", f"{process} belongs to another user: run this as root.")


def _wait_for(is_done: Callable[[], bool], what: str, *, limit_s: float = LIMIT_S) -> None:
    """Return once `is_done`. Raise Refused after `limit_s`; its sentence begins with `what`."""
    until = time.monotonic() + limit_s
    while not is_done():
        if time.monotonic() > until:
            raise Refused(
                "wait_timeout",
                f"{what}, and after {limit_s:g} s no other works in its place: check that a "
                "supervisor restarts it, and read its log.",
            )
        time.sleep(POLL_S)
