"""The process that portfolio processes are forked from. Runs as a program; talks over one socket.

Not multiprocessing's: that one imports the daemon's main module into every child, keeps a third
process, and skips its preload without a word when the project is not on the path.

    daemon ── request (kind, id) + two file descriptors ──▶ forkserver ── fork ──▶ child
    daemon ◀── started (id, pid) / exited (id, pid, status) ── forkserver
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys

from scheduling.node_daemon.dying import die_with_parent
from scheduling.node_daemon.preload import warm_up

REQUEST = struct.Struct(">cI")  #: kind, id
REPLY = struct.Struct(">cIii")  #: kind, id, pid, wait status
SERVE = b"S"  #: a portfolio process: (its socket, where its output goes)
LIST = b"L"  #: write the strategies there are as JSON into the socket, and exit
STARTED, EXITED = b"s", b"x"


def main() -> None:
    """Serve requests until the daemon closes its end or dies; then kill all children."""
    control_fd, parent, memory_mb = (int(text) for text in sys.argv[1:4])
    die_with_parent(parent)
    warm_up()
    control = socket.socket(fileno=control_fd)
    ForkServer(control, memory_mb << 20).run()


class ForkServer:
    """Forks on request and tells who ended."""

    def __init__(self, control: socket.socket, memory_bytes: int) -> None:
        """Take over the control socket. SIGCHLD wakes the loop through a pipe."""
        self._control = control
        self._memory_bytes = memory_bytes
        self._children: dict[int, int] = {}  # pid → id of its request
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for ignored in (signal.SIGINT, signal.SIGTERM):  # the daemon decides when to end
            signal.signal(ignored, signal.SIG_IGN)

    def run(self) -> None:
        """Return when the daemon has closed its end."""
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._woken], [], [])
            if self._woken in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()
            if self._control.fileno() in readable and not self._answer():
                break
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def _answer(self) -> bool:
        """Fork for one request. Return False when the daemon has gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, REQUEST.size, 2)
        except ConnectionResetError:
            return False
        if len(data) < REQUEST.size:
            return False
        kind, number = REQUEST.unpack(data)
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._become_child(me, kind, fds)
                status = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                with contextlib.suppress(Exception):
                    sys.stderr.flush()
                os._exit(status)
        for fd in fds:
            os.close(fd)
        self._children[pid] = number
        self._tell(STARTED, number, pid, 0)
        return True

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._tell(EXITED, self._children.pop(pid), pid, status)

    def _tell(self, kind: bytes, number: int, pid: int, status: int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.sendall(REPLY.pack(kind, number, pid, status))

    def _become_child(self, forkserver: int, kind: bytes, fds: list[int]) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(forkserver)
        os.setsid()  # a group of its own, so that what a strategy starts is killed with it
        conversation, output = fds
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, conversation)
        os.closerange(conversation + 1, 4096)
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (self._memory_bytes, self._memory_bytes))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with socket.socket(fileno=conversation) as sock:
            if kind == LIST:
                sock.sendall(_strategies())
            else:
                from portfolios.runtime.child import serve

                serve(sock)


def _strategies() -> bytes:
    """Return JSON of {versions, problems}. Imports strategies from outside, hence in a child."""
    from portfolios.strategies import registry

    return json.dumps({"versions": registry.versions(), "problems": registry.problems()}).encode()


if __name__ == "__main__":
    main()
