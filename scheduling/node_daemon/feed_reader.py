"""One feed on one node: its head now, the ring, and who is to be woken when events come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from portfolios.feeds.base import Feed
from portfolios.feeds.clock import NotReleased, Segment, head_at, release_us
from portfolios.feeds.ring import Ring
from scheduling.node_daemon.clock import boottime_us
from scheduling.node_daemon.feed_time import FeedTime
from scheduling.wire.messages import SegmentInfo

MIN_TICK_S = 0.004  #: many events in less than this are one wake-up
MAX_TICK_S = 1.0
MAX_SCANNED_EVENTS = (
    256  #: new events of one tick whose symbols are looked at; beyond, all are woken
)


class Listener:
    """A portfolio that wants to hear of new events of its symbols (None: of all)."""

    def __init__(self, symbols: frozenset[str] | None, wake: Callable[[], None]) -> None:
        """`wake` is called on the loop, once for each tick that released something for it."""
        self.symbols = symbols
        self.wake = wake


class FeedReader:
    """Turns feed time into heads and batches. The log is the buffer: nothing is consumed."""

    def __init__(self, feed: Feed, feed_time: FeedTime) -> None:
        """Start without segments: the head is 0 until the server says where the feed is."""
        self.feed = feed
        self._time = feed_time
        self._segments: tuple[Segment, ...] = ()
        self.ring = Ring(feed, ())
        self._listeners: set[Listener] = set()
        self._changed = asyncio.Event()

    def set_segments(self, infos: Iterable[SegmentInfo]) -> None:
        """Take the segments now in force."""
        segments = tuple(Segment(i.from_seq, i.from_time_us, i.rate) for i in infos)
        if segments != self._segments:
            self._segments = segments
            self.ring.set_segments(segments)
            self._changed.set()

    @property
    def newest_us(self) -> int:
        """Return when the newest segment that is known begins or began; 0 while none is."""
        return self._segments[-1].from_time_us if self._segments else 0

    def head(self, age_us: int = 0) -> int:
        """Return the newest seq that was released `age_us` ago; 0 while nothing is known."""
        if not self._segments:
            return 0
        return head_at(self._segments, self._time.at(boottime_us()) - age_us)

    def age_s(self, seq: int) -> float:
        """Return the seconds since the release of `seq`; negative if that is still to come."""
        return (self._time.at(boottime_us()) - release_us(self._segments, seq)) / 1e6

    def listen(self, listener: Listener) -> None:
        """Wake `listener` from now on."""
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """Wake it no more."""
        self._listeners.discard(listener)

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
        """Return how long to sleep until an event behind `seen` is released."""
        if not self._segments:
            return MAX_TICK_S
        try:
            at = release_us(self._segments, seen + 1)
        except NotReleased:
            return MAX_TICK_S
        left = (at - self._time.at(boottime_us())) / 1e6
        return min(max(left, MIN_TICK_S), MAX_TICK_S)

    def _wake_for(self, seen: int, head: int) -> None:
        if not self._listeners:
            return
        new: set[str] | None = None
        if head - seen <= MAX_SCANNED_EVENTS:
            new = {event.symbol for event in self.feed.read(seen + 1, head - seen)}
        for listener in list(self._listeners):
            symbols = listener.symbols
            if symbols is None or new is None or not symbols.isdisjoint(new):
                listener.wake()
