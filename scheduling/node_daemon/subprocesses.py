"""Programs that the daemon runs to completion, with a time limit and their last output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portfolios.text import escape_unprintable

TAIL_BYTES = 4_000  #: of the output, kept for the caller
CHUNK_BYTES = 65_536
NICENESS = 10  #: so that portfolio processes get the processor first


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    status: int  #: exit code; negative: the signal that ended it
    output: str  #: the end of stdout and stderr
    timed_out: bool = False

    def summary(self, characters: int = 300) -> str:
        """Return the end of its output as one printable line, its status if it printed nothing."""
        text = escape_unprintable(" ".join(self.output.split()))
        if not text:
            return f"it ended with status {self.status} and printed nothing"
        return text if len(text) <= characters else "…" + text[-characters:]


async def run_program(
    argv: Sequence[str], limit_s: float, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run a program at low priority until it ends. At the limit, or if cancelled, kill it."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    tail = b""
    timed_out = False
    try:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        assert process.stdout is not None
        async with asyncio.timeout(limit_s):
            while chunk := await process.stdout.read(CHUNK_BYTES):
                tail = (tail + chunk)[-TAIL_BYTES:]
            await process.wait()
    except TimeoutError:
        timed_out = True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        status = await asyncio.shield(process.wait())
    return Ended(status, tail.decode(errors="replace").strip(), timed_out)
