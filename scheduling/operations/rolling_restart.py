"""Restart the processes of an installation on this host, one after the other.

Each is asked to end, and its supervisor (systemd, `bin/up`) starts it again, with the code that is
in the checkout now. The next one is asked once the new one works.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psutil
from django.conf import settings

from ginkgo_site.env import InvalidSetting, read_environment
from scheduling.db.transaction import execute
from scheduling.decide.reasons import count
from scheduling.errors import Refused
from scheduling.models import Node, NodeStatus, Run
from scheduling.observe.control_plane import GatewayRow, read_control_plane
from scheduling.operations.nodes import drain, undrain

#: For a process to end, its supervisor to start another, and that one to work, on a busy machine.
LIMIT_S = 120.0
#: A process that did so lately works.
RECENT_S = 3.0
POLL_S = 0.2

#: In this order: words of a command line by the kind of process.
KINDS: dict[str, tuple[str, ...]] = {
    "web": ("ginkgo_site.asgi:application",),
    "watcher": ("manage.py", "run_watcher"),
    "worker": ("manage.py", "qcluster"),
    "recorder": ("manage.py", "feed", "record"),
}


class Process(NamedTuple):
    """The main process of a kind; `pid` and `began` together are never reused."""

    kind: str
    pid: int
    began: float


def kind_of(command_line: list[str]) -> str | None:
    """Return the kind of a control-plane process by its command line, or None."""
    words = [word.rpartition("/")[2] for word in command_line]
    for kind, needed in KINDS.items():
        if all(word in words for word in needed):
            return kind
    return None


def rolling_restart(*, drain_s: float, actor: str) -> Iterator[str]:
    """Restart web processes, watchers, workers, recorders and nodes of this host, in this order.

    Yields a sentence for each step. Raise Refused if one does not come back in time, or if a node
    cannot be emptied within `drain_s`; what is left has not been touched then.
    """
    processes = _find()
    for kind in KINDS:
        for process in (found for found in processes if found.kind == kind):
            yield from _restart(process)
    for node in _nodes_here():
        yield from _restart_node(node, drain_s, actor)


def _find() -> list[Process]:
    """Return the processes of this installation on this host, without those that they forked."""
    found: dict[int, Process] = {}
    parents: dict[int, int] = {}
    for process in psutil.process_iter():
        try:
            kind = kind_of(process.cmdline())
            if kind is not None and _is_ours(process):
                found[process.pid] = Process(kind, process.pid, process.create_time())
                parents[process.pid] = process.ppid()
        except psutil.Error:
            continue  # it has ended, or belongs to a user whom this one may not look at
    return [process for pid, process in sorted(found.items()) if parents[pid] not in found]


def _is_ours(process: psutil.Process) -> bool:
    """Return whether it works on the database of this process. Raise psutil.Error."""
    try:
        return read_environment(process.environ()).database_url == settings.GINKGO.database_url
    except InvalidSetting:
        return False


def _restart(process: Process) -> Iterator[str]:
    began_s = time.monotonic()
    siblings = {found.pid for found in _find() if found.kind == process.kind}
    _end(process.pid)

    def is_replaced() -> bool:
        new = [f for f in _find() if f.kind == process.kind and f.pid not in siblings]
        return bool(new) and _works(process.kind, {found.pid for found in new})

    _wait_for(is_replaced, f"The {process.kind} process {process.pid} was ended")
    yield f"{process.kind} {process.pid} restarted within {time.monotonic() - began_s:.1f} s."


def _works(kind: str, pids: set[int]) -> bool:
    state = execute(read_control_plane())
    if kind == "web":
        return any(_serves(row, pids) for row in state.gateways)
    return kind != "watcher" or state.passes.get("watcher", RECENT_S) < RECENT_S


def _serves(row: GatewayRow, pids: set[int]) -> bool:
    return row.host == socket.gethostname() and row.pid in pids and row.pulse_age_s < RECENT_S


def _nodes_here() -> list[Node]:
    """Return the living nodes whose daemons run on this host."""
    alive = Node.objects.filter(host=socket.gethostname(), status=NodeStatus.ALIVE)
    return [node for node in alive if node.pid is not None and psutil.pid_exists(node.pid)]


def _restart_node(node: Node, drain_s: float, actor: str) -> Iterator[str]:
    began_s = time.monotonic()
    others = Node.objects.filter(status=NodeStatus.ALIVE, cordoned=False).exclude(pk=node.pk)
    moved = others.exists()
    if moved:
        drain(node.name, actor=actor, reason="rolling restart", until_return=True)
        owned = Run.objects.filter(node=node)
        try:
            _wait_for(lambda: not owned.exists(), f"{node.name} drains", limit_s=drain_s)
        except Refused as refused:
            undrain(node.name, actor=actor)
            raise Refused(
                "wait_timeout",
                f"{node.name} still runs {count(owned.count(), 'portfolio')} after {drain_s:g} s, "
                f"and was not restarted. `manage.py drain_node {node.name} --plan` says what has "
                "no place.",
            ) from refused
    registrations = node.registrations
    assert node.pid is not None
    _end(node.pid)

    def is_back() -> bool:
        now = Node.objects.get(pk=node.pk)
        return now.status == NodeStatus.ALIVE and now.registrations > registrations

    _wait_for(is_back, f"The daemon of {node.name} was ended")
    how = "emptied and restarted" if moved else "restarted without a move: it is the only one"
    yield f"{node.name} {how} within {time.monotonic() - began_s:.1f} s."


def _end(pid: int) -> None:
    try:
        psutil.Process(pid).terminate()
    except psutil.NoSuchProcess:
        pass  # it has ended by itself
    except psutil.AccessDenied:
        raise Refused(
            "forbidden",
            f"Process {pid} belongs to another user: run this as root, or as that user.",
        ) from None


def _wait_for(is_done: Callable[[], bool], what: str, *, limit_s: float = LIMIT_S) -> None:
    until = time.monotonic() + limit_s
    while not is_done():
        if time.monotonic() > until:
            raise Refused(
                "wait_timeout",
                f"{what}, and after {limit_s:g} s nothing works in its place: look at its log, and "
                "whether something supervises it.",
            )
        time.sleep(POLL_S)
