"""The process that replays a strategy: the same event loop and the same sandbox as on a node, since
what the sandbox refuses affects what a strategy decides.

A strategy that loops, exits or uses up memory fails the verification and nothing else: its process
is killed at the limit, and the error names the cause.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from portfolios.runtime.messages import (
    HEADER,
    Batch,
    Examine,
    Load,
    Reply,
    decode_reply,
    encode_message,
)
from portfolios.runtime.money import install_context
from portfolios.runtime.sandbox import apply_sandbox, limit_process
from portfolios.runtime.secrets import without_secrets
from portfolios.runtime.worker import PortfolioWorker, serve
from portfolios.verify.printed import PrintedOutput, PrintStream

Ask = Callable[[Load | Batch | Examine], Reply]

PROJECT_ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0  #: time limit of one request of at most 2,000 events
MEMORY_MB = 1024
PR_SET_PDEATHSIG = 1


class ReplayProcessEnded(Exception):
    """The process no longer answers. The text says how it ended."""


@contextmanager
def replay_process(
    limit_s: float = LIMIT_S,
    memory_mb: int = MEMORY_MB,
    *,
    sandboxed: bool = True,
    printed: PrintedOutput | None = None,
) -> Iterator[Ask]:
    """Start a portfolio process and yield a function that sends it a request.

    The process is killed at the end of the block, or when an answer is late. `printed` takes what
    the strategy prints; without it, that is dropped.
    """
    ours, theirs = socket.socketpair()
    output = -1 if printed is None else printed.write_end
    given = (theirs.fileno(), memory_mb, int(sandboxed), os.getpid(), output)
    child = subprocess.Popen(
        [sys.executable, "-m", "portfolios.verify.replay_process", *map(str, given)],
        cwd=PROJECT_ROOT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[theirs.fileno(), *([] if printed is None else [output])],
        start_new_session=True,  # so that processes a strategy starts are killed with it
    )
    theirs.close()
    if printed is not None:
        printed.begin_reading()
    ours.settimeout(limit_s)

    def ask(request: Load | Batch | Examine) -> Reply:
        try:
            ours.sendall(encode_message(request))
            header = _receive_exactly(ours, HEADER.size)
            return decode_reply(_receive_exactly(ours, HEADER.unpack(header)[0]))
        except TimeoutError:
            raise ReplayProcessEnded(
                f"it did not answer within {limit_s:g} s and was killed"
            ) from None
        except ConnectionError:
            with suppress(subprocess.TimeoutExpired):
                child.wait(1.0)
            raise ReplayProcessEnded(_exit_description(child.returncode)) from None

    try:
        yield ask
    finally:
        ours.close()
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def in_this_process() -> Ask:
    """Return the same function without a process: the strategy's time is not limited."""
    return PortfolioWorker().answer


def _receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise ConnectionResetError
        data += chunk
    return bytes(data)


def _exit_description(status: int | None) -> str:
    if status is None:
        return "its process closed its socket without exiting"
    if status < 0:
        return f"its process was killed by {signal.Signals(-status).name}"
    return f"its process exited with status {status}"


def _environment() -> dict[str, str]:
    """Return the environment of a portfolio process: a fixed hash seed, and no secrets."""
    # Absolute, since the process runs in another folder.
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    paths = dict.fromkeys([str(PROJECT_ROOT), *map(os.path.abspath, given)])
    fixed = {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(paths)}
    return without_secrets(os.environ) | fixed


def main() -> None:
    """Serve on the given socket until its other end closes: then the parent has exited.

    A strategy that loops does not read its socket, so the kernel kills it when the parent exits.
    """
    fd, memory_mb, sandboxed, parent, output = (int(text) for text in sys.argv[1:6])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            return
    limit_process(memory_mb << 20)
    if sandboxed:
        sys.dont_write_bytecode = True
        apply_sandbox(parent=parent)
    install_context()
    sock = socket.socket(fileno=fd)
    if output < 0:
        serve(sock)
    else:
        serve(sock, lambda worker: PrintStream(output, lambda: worker.event_seq))


if __name__ == "__main__":
    main()
