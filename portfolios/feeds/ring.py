"""Ring buffer of the newest events of a feed, encoded once, shared by all portfolios of a node."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import islice

from portfolios.feeds.base import Feed
from portfolios.feeds.clock import Segment
from portfolios.runtime.events import encode_event, encode_events, join_events


class Ring:
    """A bounded window of the feed. Older events are read from the feed again."""

    def __init__(self, feed: Feed, segments: Sequence[Segment], capacity: int = 16_384) -> None:
        """Start empty; at most `capacity` events are kept (about 150 bytes each)."""
        self._feed = feed
        self._segments = tuple(segments)
        self._capacity = capacity
        self._clear(from_seq=1)

    def set_segments(self, segments: Sequence[Segment]) -> None:
        """Set the current segments. If they changed, drop all encoded events.

        A node that learns late of a rate change has stamped some events with the old rate.
        """
        if tuple(segments) != self._segments:
            self._segments = tuple(segments)
            self._clear(from_seq=1)

    def batch(
        self,
        cursor_seq: int,
        symbols: frozenset[str] | None,
        head: int,
        max_events: int = 100,
        max_span: int = 100_000,
    ) -> tuple[bytes, int]:
        """Return (events, to_seq): the next events of `symbols` after `cursor_seq`, encoded.

        to_seq is at most `head`, at most `max_span` after the cursor, and not beyond the
        `max_events`-th event. At the head, to_seq equals the cursor and the batch is empty.
        """
        first, last = cursor_seq + 1, min(head, cursor_seq + max_span)
        if last < first:
            return join_events([]), cursor_seq
        self._fill(first, head)
        if first < self._oldest:
            return self._from_feed(symbols, first, last, max_events)
        seqs = list(islice(self._seqs_of(symbols, first, last), max_events))
        to_seq = seqs[-1] if len(seqs) == max_events else last
        slots, capacity = self._slots, self._capacity
        return join_events([slots[seq % capacity][1] for seq in seqs]), to_seq

    def _from_feed(
        self, symbols: frozenset[str] | None, first: int, last: int, max_events: int
    ) -> tuple[bytes, int]:
        """Return the batch from the feed, for events that have left the window."""
        events = self._feed.read_for(symbols, first, last, self._segments, max_events)
        to_seq = events[-1].seq if len(events) == max_events else last
        return encode_events(events), to_seq

    def _seqs_of(self, symbols: frozenset[str] | None, first: int, last: int) -> Iterable[int]:
        """Return the seqs of the events of `symbols` (None: all) from `first` to `last`, in order.

        The window must hold all of that range.
        """
        if symbols is None:
            return range(first, last + 1)
        queues = (self._seqs[symbol] for symbol in symbols if symbol in self._seqs)
        return merge(*([seq for seq in queue if first <= seq <= last] for queue in queues))

    def _fill(self, first: int, head: int) -> None:
        """Extend the window up to `head`, dropping the oldest events beyond the capacity.

        An empty window begins at `first`, not a whole capacity before the head: after a daemon has
        started, its portfolios are near the head, and would wait while so much is read and encoded.
        """
        if self._newest < self._oldest:  # it is empty
            self._clear(from_seq=first)
        if head - self._newest > self._capacity:
            self._clear(from_seq=head - self._capacity + 1)
        missing = head - self._newest
        if missing <= 0:
            return
        for event in self._feed.read(self._newest + 1, missing, self._segments):
            self._add(event.seq, event.symbol, encode_event(event))

    def _add(self, seq: int, symbol: str, encoded: bytes) -> None:
        """Append an event to the window; at the capacity, drop the oldest one."""
        if seq - self._oldest == self._capacity:
            leaving, _ = self._slots[self._oldest % self._capacity]
            self._seqs[leaving].popleft()
            self._oldest += 1
        self._slots[seq % self._capacity] = (symbol, encoded)
        self._seqs.setdefault(symbol, deque()).append(seq)
        self._newest = seq

    def _clear(self, from_seq: int) -> None:
        """Empty the window. Its next event will be `from_seq`."""
        self._slots = [("", b"")] * self._capacity  # (symbol, bytes) of seq at seq % capacity
        self._seqs: dict[str, deque[int]] = {}  # seqs in the window, by symbol
        self._oldest, self._newest = from_seq, from_seq - 1
