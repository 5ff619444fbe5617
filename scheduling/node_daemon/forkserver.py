"""The process from which portfolio processes are forked: a program that a control socket directs.

The forkserver of Python's multiprocessing is not used: it imports the daemon's main module into
every child, keeps a third process, and silently skips its preload when the project is not on the
path.

    daemon ── request (kind, id, artifact) + two file descriptors ──▶ forkserver ── fork ──▶ child
    daemon ◀── ready / started (id, pid) / exited (id, pid, status) ── forkserver

A daemon has one forkserver for its own packages, and one for each environment in use. The latter
imports packages from outside; before that it gives up root and the right to write files.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys

from portfolios.artifacts import load
from portfolios.runtime.parent_death import die_with_parent
from portfolios.runtime.sandbox import (
    adopt_orphans,
    apply_sandbox,
    confine_preloading,
    limit_process,
    offer_to_oom_killer,
)
from scheduling.node_daemon import preload

REQUEST = struct.Struct(">cIH")  #: kind, id, length of the JSON [sha256, folder] that follows
REPLY = struct.Struct(">cIii")  #: kind, id, pid, wait status
# Kinds of requests. The two descriptors are the socket of the process and the pipe of its output.
SERVE = b"S"  #: run a portfolio
LIST = b"L"  #: write the installed strategies as JSON into the socket, and exit
STARTED, EXITED = b"s", b"x"  #: replies: a child was forked; it has ended
READY = b"r"  #: reply: everything is preloaded
#: Interval of checks for strays, which are processes that portfolio processes started. Where the
#: sandbox is complete, they can start none.
STRAY_CHECK_S = 1.0
MAX_STRAY_ROUNDS = 100  #: a fork bomb must not keep the forkserver from its requests


def main() -> None:
    """Serve requests until the daemon closes its end or dies; then kill all children."""
    control_fd, parent_pid, memory_mb, sandboxed = (int(text) for text in sys.argv[1:5])
    die_with_parent(parent_pid)
    adopt_orphans()
    preload.import_runtime()
    if len(sys.argv) > 5:  # the forkserver of an environment
        project, artifacts, modules = json.loads(sys.argv[5])
        load.use_environment(project)
        sys.dont_write_bytecode = True
        offer_to_oom_killer()
        if sandboxed:
            confine_preloading(parent_pid, [sys.prefix, artifacts])
        preload.import_packages(modules)
    preload.freeze()
    control = socket.socket(fileno=control_fd)
    ForkServer(control, memory_mb << 20, bool(sandboxed)).run()


class ForkServer:
    """Forks on request and reports exited children."""

    def __init__(self, control: socket.socket, memory_bytes: int, sandboxed: bool) -> None:
        """Take over the control socket. SIGCHLD wakes the loop through a pipe."""
        self._control = control
        self._memory_bytes = memory_bytes
        self._sandboxed = sandboxed
        self._strays_possible = not sandboxed or bool(self._missing_protections())
        self._children: dict[int, int] = {}  # pid → id of its request
        self._wakeup, wake = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda signal_number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for ignored in (signal.SIGINT, signal.SIGTERM):  # the daemon decides when this process ends
            signal.signal(ignored, signal.SIG_IGN)

    def run(self) -> None:
        """Serve requests and report ended children until the daemon closes its end."""
        self._send_reply(READY, 0, os.getpid(), 0)
        while True:
            wait_s = STRAY_CHECK_S if self._strays_possible and self._children else None
            readable, _, _ = select.select([self._control.fileno(), self._wakeup], [], [], wait_s)
            if not readable:
                self._kill_strays()
            if self._wakeup in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
                self._reap()
            if self._control.fileno() in readable and not self._handle_request():
                break
        for pid in self._children:
            _kill(-pid)
        if self._strays_possible:
            while self._children:  # orphans become children of this process when their parents end
                self._reap(wait=True)
            self._kill_strays()

    def _handle_request(self) -> bool:
        """Fork for one request. Return False when the daemon has gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, REQUEST.size, 2)
        except ConnectionResetError:
            return False
        if len(data) < REQUEST.size:
            return False
        kind, request_id, length = REQUEST.unpack(data)
        artifact = self._receive_artifact(length) if length else None
        forkserver_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._become_child(forkserver_pid, kind, fds, artifact)
                status = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                with contextlib.suppress(Exception):
                    sys.stderr.flush()
                os._exit(status)
        for fd in fds:
            os.close(fd)
        self._children[pid] = request_id
        self._send_reply(STARTED, request_id, pid, 0)
        return True

    def _receive_artifact(self, length: int) -> tuple[str, str]:
        """Return hash and folder of the artifact that the new process runs."""
        data = self._control.recv(length, socket.MSG_WAITALL)
        sha256, folder = json.loads(data)
        return sha256, folder

    def _reap(self, *, wait: bool = False) -> None:
        """Report children that have ended to the daemon, and kill what they started.

        With `wait`, wait for one child and return.
        """
        ended = False
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
                if pid == 0:
                    break
                request_id = self._children.pop(pid, None)  # None: a stray
                if request_id is not None:
                    _kill(-pid)  # the group may outlive its leader
                    self._send_reply(EXITED, request_id, pid, status)
                    ended = True
                if wait:
                    return
        if ended and self._strays_possible:
            self._kill_strays()

    def _kill_strays(self) -> None:
        """Kill what portfolio processes started and left behind: this process adopts the orphans.

        Strays that left their group and session are found too. A fork bomb may grow meanwhile, so
        repeat until none is found.
        """
        for _ in range(MAX_STRAY_ROUNDS):
            strays = [pid for pid in _children_of(os.getpid()) if pid not in self._children]
            for pid in strays:
                _kill(pid)
            if not strays:
                return
            with contextlib.suppress(ChildProcessError):
                for pid in strays:
                    os.waitpid(pid, 0)

    def _missing_protections(self) -> list[str]:
        """Log and return the protections that this kernel lacks, as a child process finds them."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writer, json.dumps(apply_sandbox()).encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as answer:
            missing: list[str] = json.loads(answer.read() or b'["the sandbox could not be tried"]')
        os.waitpid(pid, 0)
        for sentence in missing:
            sys.stderr.write(f"strategies are not fully sandboxed: {sentence}\n")
        return missing

    def _send_reply(self, kind: bytes, request_id: int, pid: int, status: int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the daemon has gone
            self._control.sendall(REPLY.pack(kind, request_id, pid, status))

    def _become_child(
        self, forkserver_pid: int, kind: bytes, fds: list[int], artifact: tuple[str, str] | None
    ) -> None:
        """Confine this new process, and do in it what the request asks for, until it has to end."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(forkserver_pid)
        os.setsid()  # a separate group, so that processes of a strategy are killed with it
        channel, output = fds
        devnull = os.open(os.devnull, os.O_RDONLY)
        os.dup2(devnull, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # Close all descriptors of the forkserver but the standard three and `channel`.
        os.closerange(3, channel)
        os.closerange(channel + 1, 4096)
        limit_process(self._memory_bytes)
        if self._sandboxed:
            sys.dont_write_bytecode = True
            # Both may be in the node's home, which is not readable otherwise.
            reads = [] if artifact is None else [sys.prefix, artifact[1]]  # [1]: its folder
            preload.list_changed_folders()
            apply_sandbox(parent=forkserver_pid, reads=reads)
        if artifact is not None:
            load.install(*artifact)
        with socket.socket(fileno=channel) as sock:
            if kind == LIST:
                sock.sendall(_strategy_listing())
            else:
                from portfolios.runtime.worker import serve

                serve(sock)


def _kill(pid: int) -> None:
    """Kill the process `pid`; if `pid` is negative, the process group of that number."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _children_of(parent: int) -> list[int]:
    """Return the children of a process that have not ended; [] where there is no /proc."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    with open(f"/proc/{entry.name}/stat", "rb") as stat:
                        state, ppid = stat.read().rpartition(b")")[2].split()[:2]
                    if int(ppid) == parent and state != b"Z":
                        found.append(int(entry.name))
    return found


def _strategy_listing() -> bytes:
    """Return JSON of {versions, problems}. In a child, since it imports external strategies."""
    from portfolios.strategies import registry

    return json.dumps({"versions": registry.versions(), "problems": registry.problems()}).encode()


if __name__ == "__main__":
    main()
