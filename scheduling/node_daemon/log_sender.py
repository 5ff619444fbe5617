"""Send what portfolio processes print to the control plane: in bounded batches, one at a time.

Nothing waits for a line. Lines that do not fit are lost, the oldest first, and counted.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, deque
from typing import NamedTuple

from msgspec.structs import replace

from scheduling.node_daemon.clock import boottime_s
from scheduling.node_daemon.control_plane_client import ControlPlaneClient, back_off
from scheduling.node_daemon.errors import NodeError, RequestRefused
from scheduling.node_daemon.logs import LOG
from scheduling.wire.messages import (
    MAX_LOG_BYTES,
    MAX_LOG_LINE,
    MAX_LOG_LINES,
    LogLine,
    LogRequest,
    StreamLines,
)

WAITING_LINES = 500  #: of one portfolio
LINES_PER_BATCH = 100  #: of one portfolio
LINE_BYTES = 20  #: size of a line in a message, besides its text
MAX_LOST = 2**31 - 1  #: the column that counts lost lines is an integer of 32 bits
INTERVAL_S = 1.0  #: from one batch to the next
FLUSH_LIMIT_S = 1.0


class PrintingProcess(NamedTuple):
    """A process that printed, named by its epoch, or by the handoff that it is prepared for."""

    portfolio: int
    epoch: int
    handoff: int | None


class _Line(NamedTuple):
    process: PrintingProcess
    at_s: float  #: when it was printed, by the boot-time clock
    text: str


class LogBuffer:
    """Lines of portfolio processes that wait to be sent. Bounded; the oldest are lost first."""

    def __init__(self) -> None:
        self.filled = asyncio.Event()
        self._waiting: dict[int, deque[_Line]] = {}  #: by portfolio
        self._lost: Counter[int] = Counter()  #: portfolio → number of its lines that were lost
        #: portfolio → its process that printed last. Portfolios are served in this order.
        self._last: dict[int, PrintingProcess] = {}

    def add(self, process: PrintingProcess, text: str) -> None:
        """Keep a line until it is sent; without room, lose the oldest of its portfolio."""
        waiting = self._waiting.setdefault(process.portfolio, deque())
        if len(waiting) >= WAITING_LINES:
            waiting.popleft()
            self.lose(process, 1)
        if len(text) > MAX_LOG_LINE:
            text = text[: MAX_LOG_LINE - 1] + "…"
        waiting.append(_Line(process, boottime_s(), text))
        self._last[process.portfolio] = process
        self.filled.set()

    def lose(self, process: PrintingProcess, lines: int) -> None:
        """Count dropped lines, so that the log shows how many are missing."""
        self._lost[process.portfolio] += lines
        self._last[process.portfolio] = process
        self.filled.set()

    def take(self, incarnation: str) -> tuple[LogRequest, float] | None:
        """Take the next batch out of the buffer; None if nothing waits.

        Return it with the boot time in seconds to which the ages of its lines refer.
        Portfolios take turns: one that prints much does not keep the lines of others waiting.
        """
        self.filled.clear()
        now_s = boottime_s()
        found: dict[PrintingProcess, list[LogLine]] = {}
        lines, room = 0, MAX_LOG_BYTES
        # A portfolio that is served now moves to the end of `_last`, for the next batch.
        for portfolio, process in list(self._last.items()):
            waiting, taken = self._waiting.get(portfolio, deque()), 0
            if self._lost[portfolio] and lines < MAX_LOG_LINES:  # the lost lines were the oldest
                lost = min(self._lost.pop(portfolio), MAX_LOST)
                oldest = waiting[0].process if waiting else process
                found.setdefault(oldest, []).append(LogLine(0, "", lost))
                lines, taken, room = lines + 1, taken + 1, room - LINE_BYTES
            while waiting and taken < LINES_PER_BATCH and lines < MAX_LOG_LINES:
                size = len(waiting[0].text.encode()) + LINE_BYTES
                if size > room:
                    break
                line = waiting.popleft()
                age_ms = round(1000 * (now_s - line.at_s))
                found.setdefault(line.process, []).append(LogLine(age_ms, line.text))
                lines, taken, room = lines + 1, taken + 1, room - size
            if taken:
                del self._last[portfolio]
            if waiting or self._lost[portfolio]:
                self._last[portfolio] = process
                self.filled.set()
            else:
                self._waiting.pop(portfolio, None)
        if not found:
            return None
        streams = [StreamLines(*process, lines=printed) for process, printed in found.items()]
        return LogRequest(incarnation, str(uuid.uuid4()), streams), now_s


class LogSender:
    """Sends the lines of a buffer, one request at a time."""

    def __init__(self, client: ControlPlaneClient, incarnation: str, buffer: LogBuffer) -> None:
        self._client, self._incarnation, self._buffer = client, incarnation, buffer
        self._unanswered: tuple[LogRequest, float] | None = None
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Send batches until cancelled. A batch without an answer is sent again; meanwhile the
        buffer may overflow and lose lines."""
        failures = 0
        while True:
            if self._unanswered is None:
                await self._buffer.filled.wait()
            if await self._send():
                failures = 0
                await asyncio.sleep(INTERVAL_S)
            else:
                await back_off(failures, INTERVAL_S, 10.0)
                failures += 1

    async def flush(self) -> None:
        """Send the lines that wait before the daemon ends, for at most FLUSH_LIMIT_S."""
        try:
            async with asyncio.timeout(FLUSH_LIMIT_S):
                while (self._unanswered or self._buffer.filled.is_set()) and await self._send():
                    pass
        except TimeoutError:
            pass

    async def _send(self) -> bool:
        """Send the unanswered batch, or else the next. Return False if it has to be sent again."""
        async with self._sending:
            batch = self._unanswered = self._unanswered or self._buffer.take(self._incarnation)
            if batch is None:
                return True
            request, taken_s = batch
            waited_ms = round(1000 * (boottime_s() - taken_s))
            try:
                await self._client.log(_with_ages(request, waited_ms) if waited_ms else request)
            except RequestRefused as error:
                LOG.info("lines that portfolios printed are lost: %s", error)
                for stream in request.streams:
                    # A line is one that was printed, or the count of those that were lost there.
                    lost = sum(line.lost or 1 for line in stream.lines)
                    self._buffer.lose(
                        PrintingProcess(stream.portfolio, stream.epoch, stream.handoff), lost
                    )
            except NodeError:
                return False  # heartbeats and commits log why
            self._unanswered = None
            return True


def _with_ages(request: LogRequest, by_ms: int) -> LogRequest:
    """Return the batch with lines that are `by_ms` older, for which the batch waited here."""
    streams = [
        replace(stream, lines=[replace(line, age_ms=line.age_ms + by_ms) for line in stream.lines])
        for stream in request.streams
    ]
    return replace(request, streams=streams)
