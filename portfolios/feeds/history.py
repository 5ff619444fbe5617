"""The newest events of some symbols up to a seq: what a strategy warms up with."""

from __future__ import annotations

from collections.abc import Sequence

from portfolios.feeds.base import Feed
from portfolios.feeds.clock import Segment
from portfolios.runtime.events import Event

FIRST_SPAN = 1_000  #: seqs of the first range that is read, unless every symbol is wanted
MAX_WARM_UP = 20_000  #: events
#: Records of a recorded feed that a warm-up looks through, whatever their symbols. As many records
#: are kept before each portfolio's events, so that a node, a verification and a backtest find the
#: same ones at any time.
WARM_UP_SPAN = 200_000


def newest_events(
    feed: Feed,
    symbols: frozenset[str] | None,
    to_seq: int,
    count: int,
    segments: Sequence[Segment] = (),
) -> list[Event]:
    """Return the newest `count` events of `symbols` (None: all) up to `to_seq`, oldest first.

    Events without a symbol, such as ticks, are left out: thousands of them may lie between a few
    bars. If the log has fewer than `count` events, return those. Reads ever larger ranges up to
    `to_seq` until there are enough; in a recorded feed, WARM_UP_SPAN records at most.
    """
    span = count if symbols is None else max(count, FIRST_SPAN)
    kept_from = getattr(feed, "first_seq", None)  # of a recorded feed
    oldest = 1 if kept_from is None else max(kept_from, to_seq - WARM_UP_SPAN + 1)
    while True:
        first = max(to_seq - span + 1, oldest)
        events = [e for e in feed.read_for(symbols, first, to_seq, segments) if e.symbol]
        if len(events) >= count or first == oldest:
            return events[-count:] if count else []  # [-0:] would be all of them
        span *= 4
