"""The recorder: the one writer of a feed, which appends what one source yields.

Rows and the cursor of their source are stored by one append. So the next recorder goes on without a
lost or a repeated row, wherever and however this one ended. A recorder is the one writer of its
epoch, so the head alone says whether an append without an answer was stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from portfolios.feeds.log import HeadMoved, LogUnavailable, RecordedLog
from portfolios.feeds.rows import InstrumentFacts, RowError, read_rows
from portfolios.runtime.events import Event, Gap
from scheduling.recorded_feeds.sources.base import Item, Source, SourceLost

logger = logging.getLogger(__name__)

AT_ONCE = 5_000  #: rows of one append
WAITING = 50_000  #: rows in memory; if so many wait for the log, the source is not read
FIRST_RETRY_S = 0.1
MAX_RETRY_S = 5.0
LOG_EVERY = 1_000  #: of the rows left out, one in so many is logged after the first ten


class LogWithInstruments(RecordedLog, Protocol):
    """A log that knows its instruments."""

    async def instruments(self) -> dict[str, InstrumentFacts]:
        """Return the instruments by symbol; the rows to append are checked against them."""
        ...


class RowRefused(SourceLost):
    """A row of the source is wrong. Those before it are stored."""


class Recorded(NamedTuple):
    """How many rows a recorder stored and left out, and the head of its feed after that."""

    rows: int
    left_out: int
    head: int


class Recorder:
    """Appends the rows of `source` to `log` until `end`."""

    def __init__(
        self,
        log: LogWithInstruments,
        source: Source,
        writer: str,
        *,
        skip_bad: bool = False,
        tick_s: float | None = None,
    ) -> None:
        """Claim nothing yet."""
        self._log, self._source, self._writer = log, source, writer
        self._skip_bad = skip_bad or not source.is_strict
        self._tick_s = tick_s
        self._waiting: deque[Item | None] = deque()  # None: a tick
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._failure: BaseException | None = None
        self._instruments: dict[str, InstrumentFacts] = {}
        self._epoch = self._head = 0
        self._cursor = ""
        self.rows = self.left_out = 0

    def end(self) -> None:
        """Make `run` store what was read and return. Signal handlers may call it."""
        self._ended.set()
        self._changed.set()

    async def run(self) -> Recorded:
        """Record until `end()` is called. Raise WriterReplaced, RowRefused or SourceLost.

        Rows that were read before a failure of the source are stored.
        """
        self._epoch = await self._until_answered(lambda: self._log.claim(self._writer))
        await self._until_answered(self._begin)
        logger.info("feed %s: recording from seq %d on", self._log.name, self._head + 1)
        reading = [asyncio.create_task(self._read())]
        if self._tick_s:
            reading.append(asyncio.create_task(self._tick(self._tick_s)))
        try:
            while True:
                await self._wait_for_work()
                if self._ended.is_set():
                    for task in reading:
                        task.cancel()
                if self._waiting:
                    await self._store()
                elif self._failure is not None:
                    raise self._failure
                elif self._ended.is_set():
                    return Recorded(self.rows, self.left_out, self._head)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            with contextlib.suppress(LogUnavailable):
                await self._log.release(self._epoch)

    async def _begin(self) -> None:
        """Read the head, the cursor and the instruments of the feed."""
        self._head = (await self._log.head()).seq
        self._cursor = await self._log.cursor()
        self._instruments = await self._log.instruments()

    # --- reading -----------------------------------------------------------------------------

    async def _read(self) -> None:
        """Queue the rows of the source until it fails."""
        try:
            async for items in self._source.items(self._cursor):
                self._waiting.extend(items)
                self._changed.set()
                while len(self._waiting) >= WAITING:
                    await asyncio.sleep(0.01)  # until `_store` has taken some
        except Exception as failure:
            self._failure = failure
            self._changed.set()

    async def _tick(self, every_s: float) -> None:
        """Every `every_s` seconds, queue a row with the time alone, unless rows wait."""
        while True:
            await asyncio.sleep(every_s)
            if not self._waiting:
                self._waiting.append(None)
                self._changed.set()

    async def _wait_for_work(self) -> None:
        """Wait for rows to store, for a failure of the source, or for `end`."""
        if not (self._waiting or self._failure or self._ended.is_set()):
            await self._changed.wait()
        self._changed.clear()

    # --- storing -----------------------------------------------------------------------------

    async def _store(self) -> None:
        """Append the rows that wait, as many as one append takes.

        At a wrong row, unless such rows are left out, append those before it and raise RowRefused.
        """
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), AT_ONCE))]
        items = [item for item in taken if item is not None]
        rows: list[Any] = [_tick_row() if item is None else item.row for item in taken]
        origins = ["a tick" if item is None else item.origin for item in taken]
        unlimited = len(rows) + 1  # more errors than rows cannot be
        events, wrong = read_rows(rows, self._instruments, most_errors=unlimited)
        if any(error.code == "unknown_symbol" for error in wrong):
            # The symbol may have been added since the instruments were read.
            self._instruments |= await self._until_answered(self._log.instruments)
            events, wrong = read_rows(rows, self._instruments, most_errors=unlimited)
        if wrong and not self._skip_bad:
            first = wrong[0]
            events, _ = read_rows(rows[: first.row - 1], self._instruments)
            items = [item for item in taken[: first.row - 1] if item is not None]
            await self._append(events, self._cursor_after(items))
            raise RowRefused(
                f"{origins[first.row - 1]}: {first.message} Nothing was recorded from there on:"
                " correct it at the source, or leave such rows out with --skip-bad, and start the"
                " recorder again."
            )
        for error in wrong:
            self._leave_out(origins[error.row - 1], error)
        await self._append(events, self._cursor_after(items))

    def _cursor_after(self, items: Sequence[Item]) -> str:
        """Return the cursor behind these rows; ticks alone move none."""
        return self._source.cursor_after(items) if items else self._cursor

    def _leave_out(self, origin: str, wrong: RowError) -> None:
        """Count a wrong row that is not recorded, and log some of them."""
        self.left_out += 1
        if self.left_out <= 10 or self.left_out % LOG_EVERY == 0:
            logger.warning(
                "feed %s: left out %s: %s (%d rows so far)",
                self._log.name, origin, wrong.message, self.left_out,
            )  # fmt: skip

    async def _append(self, events: Sequence[Event], cursor: str) -> None:
        """Append events exactly once, however often the log does not answer."""
        if not events:
            return  # a cursor alone is not worth an append: a restart leaves these rows out again

        async def once() -> None:
            try:
                await self._log.append(self._epoch, self._head, events, cursor=cursor)
            except HeadMoved as moved:
                # Nobody else writes in this epoch, so the head says whether the append was stored.
                head = (await self._log.head()).seq
                if head == self._head:
                    sentence = (
                        f"An append to feed {self._log.name} took too long and was not stored."
                    )
                    raise LogUnavailable(sentence) from moved
                if head != self._head + len(events):
                    raise

        await self._until_answered(once)
        self._head += len(events)
        self._cursor = cursor
        self.rows += len(events)
        for event in events:
            if event.symbol and not isinstance(event, Gap):
                facts = self._instruments[event.symbol]
                self._instruments[event.symbol] = facts._replace(last_us=event.time)

    async def _until_answered(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Return what `call` returns. Repeat it until the log answers, after `end` a few times."""
        failures = 0
        while True:
            try:
                outcome = await call()
                if failures:
                    logger.info("feed %s: the log answers again", self._log.name)
                return outcome
            except LogUnavailable as error:
                if failures % 12 == 0:  # every minute, once the retries are MAX_RETRY_S apart
                    logger.warning("%s Trying again.", str(error).strip())
                if self._ended.is_set() and failures > 3:
                    raise
                await asyncio.sleep(min(FIRST_RETRY_S * 2 ** min(failures, 8), MAX_RETRY_S))
                failures += 1


def _tick_row() -> dict[str, Any]:
    """Return a row that tells the time alone, so that timers of strategies fire on a quiet feed."""
    return {"kind": "tick", "time": datetime.now(UTC).isoformat()}
