"""The process that replays a strategy, with the event loop and the sandbox of a node.

What the sandbox refuses affects what a strategy decides, so it must be the same.

A strategy that loops, exits or uses up memory fails the verification and nothing else: its process
is killed at the limit, and the error names the cause.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from portfolios.artifacts import load
from portfolios.runtime.environment import strategy_environment
from portfolios.runtime.messages import (
    HEADER,
    MAX_REPLY_BYTES,
    Batch,
    Examine,
    Inspect,
    Load,
    Reply,
    decode_reply,
    encode_message,
)
from portfolios.runtime.money import install_context
from portfolios.runtime.parent_death import die_with_parent
from portfolios.runtime.sandbox import apply_sandbox, limit_process
from portfolios.runtime.worker import serve
from portfolios.verify.printed import PrintedOutput, PrintStream

Ask = Callable[[Load | Batch | Examine | Inspect], Reply]

PROJECT_ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0  #: time limit of one request of at most 2,000 events
MEMORY_MB = 1024  #: of the process, unless its caller sets another limit
CHUNK_BYTES = 1 << 20  #: received at once
#: The result of a sum may depend on the number of threads; a node sets the same.
ONE_THREAD = dict.fromkeys(
    (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
        *("NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    ),
    "1",
)


@dataclass(frozen=True, slots=True)
class ArtifactCode:
    """The code of an artifact on this machine, from which a process is started."""

    sha256: str
    folder: Path  #: the unpacked wheel
    python: Path | None = None  #: of the environment with its dependencies; None: this one


class ReplayProcessEnded(Exception):
    """The process no longer answers.

    The text says how it ended, to follow a colon: "it did not …".
    """


@contextmanager
def replay_process(
    limit_s: float = LIMIT_S,
    memory_mb: int = MEMORY_MB,
    *,
    sandboxed: bool = True,
    printed: PrintedOutput | None = None,
    code: ArtifactCode | None = None,
) -> Iterator[Ask]:
    """Start a portfolio process and yield a function that sends it a request.

    With `code` the process runs strategies of that artifact. It is killed at the end of the block,
    or when an answer takes over `limit_s`. `printed` takes what the strategy prints; without it,
    that is dropped.
    """
    ours, theirs = socket.socketpair()
    output = -1 if printed is None else printed.write_end
    given = [str(n) for n in (theirs.fileno(), memory_mb, int(sandboxed), os.getpid(), output)]
    python = sys.executable
    if code is not None:
        python = str(code.python or python)
        given += [code.sha256, str(code.folder), str(int(code.python is not None))]
    child = subprocess.Popen(
        [python, "-m", "portfolios.verify.replay_process", *given],
        cwd=PROJECT_ROOT,
        env=_environment(in_environment=code is not None and code.python is not None),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[theirs.fileno(), *([] if printed is None else [output])],
        start_new_session=True,  # so that processes a strategy starts are killed with it
    )
    theirs.close()
    if printed is not None:
        printed.begin_reading()

    def ask(request: Load | Batch | Examine | Inspect) -> Reply:
        """Return the process's reply. Raise ReplayProcessEnded."""
        until = time.monotonic() + limit_s
        try:
            ours.settimeout(limit_s)
            ours.sendall(encode_message(request))
            (size,) = HEADER.unpack(_receive_exactly(ours, HEADER.size, until))
            if size > (most := _max_reply_bytes(request)):
                raise ReplayProcessEnded(
                    f"it answered with {size:,} B, limit {most:,}, and was killed"
                )
            return decode_reply(_receive_exactly(ours, size, until))
        except msgspec.MsgspecError:
            raise ReplayProcessEnded(
                "it was killed, since its answer is not valid, as if the strategy had written into "
                "its socket; correct the strategy"
            ) from None
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


@contextmanager
def replay_processes(
    code_of: Callable[[str], ArtifactCode],
    memory_mb: int = MEMORY_MB,
    *,
    sandboxed: bool = True,
    printed: PrintedOutput | None = None,
) -> Iterator[Ask]:
    """Yield a function that sends a request to the process of the artifact that was loaded last.

    A process runs the code of one artifact. So a Load of another artifact starts another process,
    and a Load without an artifact one that has none. `code_of` returns the code of an artifact.
    """
    with ExitStack() as running:
        ask: Ask | None = None
        artifact = ""

        def route(request: Load | Batch | Examine | Inspect) -> Reply:
            nonlocal ask, artifact
            wanted = request.spec.artifact if isinstance(request, Load) else artifact
            if ask is None or wanted != artifact:
                running.close()
                code = code_of(wanted) if wanted else None
                started = replay_process(
                    memory_mb=memory_mb, sandboxed=sandboxed, printed=printed, code=code
                )
                ask, artifact = running.enter_context(started), wanted
            return ask(request)

        yield route


def _max_reply_bytes(request: Load | Batch | Examine | Inspect) -> int:
    """Return the most bytes of the reply. A batch has more events here than on a node."""
    return MAX_REPLY_BYTES if isinstance(request, Examine | Inspect) else 16 * MAX_REPLY_BYTES


def _receive_exactly(sock: socket.socket, size: int, until: float) -> bytes:
    """Return `size` bytes. Raise ConnectionError if the other end is closed.

    Raise TimeoutError at the monotonic time `until` in seconds, even if bytes keep coming.
    """
    data = bytearray()
    while len(data) < size:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        sock.settimeout(left_s)
        chunk = sock.recv(min(size - len(data), CHUNK_BYTES))
        if not chunk:
            raise ConnectionResetError
        data += chunk
    return bytes(data)


def _exit_description(status: int | None) -> str:
    """Return how the process ended, by the status of its `Popen`, for ReplayProcessEnded."""
    if status is None:
        return "its process closed its socket without exiting"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process exited with status {status}"


def _environment(*, in_environment: bool) -> dict[str, str]:
    """Return the variables of a portfolio process: those allowed, and a fixed hash seed.

    The Python of an artifact's environment has none of Ginkgo's packages: it gets the whole import
    path of this process.
    """
    given = sys.path if in_environment else os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # Absolute, since the process runs in another folder.
    paths = dict.fromkeys([str(PROJECT_ROOT), *map(os.path.abspath, filter(None, given))])
    fixed = {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(paths)}
    return strategy_environment(os.environ) | fixed | (ONE_THREAD if in_environment else {})


def main() -> None:
    """Serve on the socket that argument 1 names, until its other end closes: the parent has exited.

    A strategy that loops does not read its socket: `die_with_parent` ends it.
    """
    # The arguments are those that `replay_process` gives.
    fd, memory_mb, sandboxed, parent, output = (int(text) for text in sys.argv[1:6])
    artifact = sys.argv[6:8]
    in_environment = sys.argv[8:9] == ["1"]
    die_with_parent(parent)
    limit_process(memory_mb << 20)
    if in_environment:
        load.use_environment(str(PROJECT_ROOT))
    if sandboxed:
        sys.dont_write_bytecode = True
        # Both may be in the home, which is not readable otherwise.
        reads = [sys.prefix, artifact[1]] if artifact else []
        apply_sandbox(parent=parent, reads=reads)
    if artifact:
        load.install(*artifact)
    install_context()
    sock = socket.socket(fileno=fd)
    if output < 0:
        serve(sock)
    else:
        serve(sock, lambda worker: PrintStream(output, lambda: worker.event_seq))


if __name__ == "__main__":
    main()
