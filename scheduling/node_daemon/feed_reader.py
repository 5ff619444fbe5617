"""One replay on one node: its head, the ring of its newest events, and those who wait for more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from portfolios.feeds.base import Feed
from portfolios.feeds.clock import NotReleased, Segment, head_at, release_us
from portfolios.feeds.history import newest_events
from portfolios.feeds.ring import Ring
from portfolios.runtime.events import Event
from scheduling.node_daemon.clock import boottime_us
from scheduling.node_daemon.feed_time import FeedTime
from scheduling.wire.messages import SegmentInfo

MIN_TICK_S = 0.004  #: events within this time cause one wake-up
MAX_TICK_S = 1.0  #: longest wait before the head is computed again
MAX_SCANNED_EVENTS = 256  #: if more came at once, all listeners wake, whatever their symbols


class Listener:
    """A portfolio that waits for new events of its symbols (None: of all)."""

    def __init__(self, symbols: frozenset[str] | None, wake: Callable[[], None]) -> None:
        """`wake` is called on the event loop, each time events of `symbols` may have come."""
        self.symbols = symbols
        self.wake = wake


class Listeners:
    """The listeners of one feed."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def listen(self, listener: Listener) -> None:
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def _wake(self, symbols: set[str] | None) -> None:
        """Wake the listeners of any of `symbols` (None: every listener)."""
        for listener in list(self._listeners):
            wanted = listener.symbols
            if wanted is None or symbols is None or not wanted.isdisjoint(symbols):
                listener.wake()


class FeedReader(Listeners):
    """Reads a replay, whose events are released by feed time. Reading consumes nothing."""

    def __init__(self, feed: Feed, feed_time: FeedTime) -> None:
        """Start without segments: the head is 0 until the server sends them."""
        super().__init__()
        self.feed = feed
        self._time = feed_time
        self._segments: tuple[Segment, ...] = ()
        self.ring = Ring(feed, ())
        self._changed = asyncio.Event()

    def set_segments(self, infos: Iterable[SegmentInfo]) -> None:
        """Release events by these segments from now on."""
        segments = tuple(Segment(info.from_seq, info.from_time_us, info.rate) for info in infos)
        if segments != self._segments:
            self._segments = segments
            self.ring.set_segments(segments)
            self._changed.set()

    @property
    def segment_start_us(self) -> int:
        """Return the start of the newest known segment, or 0 without segments."""
        return self._segments[-1].from_time_us if self._segments else 0

    def record_hash(self, seq: int) -> bytes:
        """Return b"", no hash: packaged bars are the same on every node, so none is compared."""
        return b""

    def read_again(self) -> None:
        """Do nothing: packaged bars do not change."""

    def head(self, age_us: int = 0) -> int:
        """Return the newest seq released at least `age_us` ago, or 0 without segments."""
        if not self._segments:
            return 0
        return head_at(self._segments, self._time.at(boottime_us()) - age_us)

    def stale_head(self, cursor: int, age_us: int) -> int:
        """Return the newest seq released at least `age_us` ago. `cursor` has no effect here."""
        return self.head(age_us)

    async def load(self, cursor: int) -> bool:
        """Return True: packaged bars are on the node."""
        return True

    def batch(
        self, cursor: int, symbols: frozenset[str] | None, head: int, max_events: int, max_span: int
    ) -> tuple[bytes, int]:
        """Return (encoded events, to_seq): see `Ring.batch`."""
        return self.ring.batch(cursor, symbols, head, max_events, max_span)

    def age_s(self, seq: int) -> float:
        """Return the seconds since the release of `seq`; negative if it lies in the future."""
        return (self._time.at(boottime_us()) - release_us(self._segments, seq)) / 1e6

    async def history(self, symbols: frozenset[str] | None, to_seq: int, count: int) -> list[Event]:
        """Return the newest `count` events of `symbols` (None: all) up to `to_seq`."""
        return newest_events(self.feed, symbols, to_seq, count, self._segments)

    async def run(self) -> None:
        """Wake listeners as events are released, until cancelled."""
        seen = self.head()
        while True:
            try:
                async with asyncio.timeout(self._until_next_s(seen)):
                    await self._changed.wait()
                self._changed.clear()
            except TimeoutError:
                pass
            head = self.head()
            if head > seen:
                self._wake_for(seen, head)
                seen = head

    def _until_next_s(self, seen: int) -> float:
        """Return the seconds until the event after `seen`, from MIN_TICK_S to MAX_TICK_S."""
        if not self._segments:
            return MAX_TICK_S
        try:
            next_us = release_us(self._segments, seen + 1)
        except NotReleased:
            return MAX_TICK_S
        wait_s = (next_us - self._time.at(boottime_us())) / 1e6
        return min(max(wait_s, MIN_TICK_S), MAX_TICK_S)

    def _wake_for(self, seen: int, head: int) -> None:
        """Wake the listeners of the symbols of the events in (seen, head]."""
        if not self._listeners:
            return
        symbols: set[str] | None = None
        if head - seen <= MAX_SCANNED_EVENTS:
            symbols = {event.symbol for event in self.feed.read(seen + 1, head - seen)}
        self._wake(symbols)
