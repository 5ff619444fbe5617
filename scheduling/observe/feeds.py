"""Feeds as pages, the API and commands show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from portfolios.feeds.rows import EPOCH
from portfolios.runtime.events import Event, Gap
from scheduling.db.snapshot import repeatable_read
from scheduling.db.statements import FEED_SEGMENTS, head_seq
from scheduling.observe.view_fields import same_named


@dataclass(frozen=True, slots=True)
class ReaderView:
    """How far one node is behind the head of a feed."""

    node: str
    portfolios: int  #: how many of its portfolios read the feed
    lag: int  #: of the slowest of them


@dataclass(frozen=True, slots=True)
class FeedView:
    """One feed as of one snapshot."""

    name: str
    kind: str
    head: int
    first_seq: int  #: the oldest record that is kept
    newest_at: datetime | None  #: release of the newest record; None: a replay, or no record yet
    silent_s: float | None  #: seconds since then
    silent_after_s: int | None  #: an alert opens when `silent_s` exceeds this; None: never
    keep_days: int | None  #: None: records are kept for good
    rate: float  #: events a second; of a recorded feed, over the last minute
    writer: str  #: the process that may append; empty: every source may
    in_stream: bool
    instruments: int  #: how many
    portfolios: list[str]
    readers: list[ReaderView]

    @property
    def is_silent(self) -> bool:
        """Return whether the feed's newest record is older than `silent_after_s`."""
        limit_s, silent_s = self.silent_after_s, self.silent_s
        return limit_s is not None and silent_s is not None and silent_s > limit_s


FEEDS = f"""
SELECT f.id, f.name, f.kind, f.silent_after_s, f.keep_days,
       coalesce((SELECT {head_seq()} FROM {FEED_SEGMENTS} s WHERE s.feed_id = f.id
                 ORDER BY s.id DESC LIMIT 1), 0) AS head,
       coalesce(w.first_seq, 1) AS first_seq, coalesce(w.writer, '') AS writer,
       coalesce(w.in_stream, false) AS in_stream,
       CASE WHEN w.head > 0 THEN w.released_at END AS newest_at,
       CASE WHEN w.head > 0
            THEN extract(epoch FROM clock_timestamp() - w.released_at)::float END AS silent_s,
       CASE WHEN w.feed_id IS NULL THEN coalesce(
            (SELECT s.rate FROM portfolios_feedsegment s WHERE s.feed_id = f.id
             ORDER BY s.id DESC LIMIT 1), 0)
       ELSE (w.head - coalesce((
            -- The newest record that is a minute old, of the last 60,000: a thousand a second.
            SELECT r.seq FROM portfolios_feedrecord r WHERE r.feed_id = f.id AND r.seq <= w.head
              AND r.released_us <= extract(epoch FROM clock_timestamp()) * 1e6 - 60e6
              AND r.seq > w.head - 60000
            ORDER BY r.seq DESC LIMIT 1), greatest(w.head - 60000, 0))) / 60.0 END AS rate,
       (SELECT count(*) FROM portfolios_instrument i WHERE i.feed_id = f.id) AS instruments
FROM portfolios_feed f LEFT JOIN portfolios_feedwriter w ON w.feed_id = f.id
WHERE %(name)s::text IS NULL OR f.name = %(name)s::text
ORDER BY f.id
"""

#: Every portfolio with its feed, its node (NULL: no owner) and its last seq.
READING_PORTFOLIOS = """
SELECT p.feed_id, p.name, n.name AS node, r.last_seq
FROM portfolios_portfolio p JOIN scheduling_run r ON r.portfolio_id = p.id
LEFT JOIN scheduling_node n ON n.id = r.node_id
WHERE p.archived_at IS NULL ORDER BY p.name
"""


def read_feeds(name: str | None = None) -> list[FeedView]:
    """Return all feeds, or the one of this name. Two statements in one snapshot.

    Raise SnapshotUnavailable if the database cannot be read.
    """
    with repeatable_read("the feeds") as cursor:
        feeds: list[Any] = cursor.execute(FEEDS.encode(), {"name": name}).fetchall()
        portfolios: list[Any] = cursor.execute(READING_PORTFOLIOS.encode()).fetchall()
    return [_feed_view(feed, [p for p in portfolios if p.feed_id == feed.id]) for feed in feeds]


def _feed_view(row: Any, portfolios: list[Any]) -> FeedView:
    """Return the view of a row of FEEDS, with its `portfolios`, rows of READING_PORTFOLIOS."""
    lags_by_node: dict[str, list[int]] = {}
    for portfolio in portfolios:
        if portfolio.node is not None:
            lags_by_node.setdefault(portfolio.node, []).append(
                max(row.head - portfolio.last_seq, 0)
            )
    known = same_named(FeedView, row) | {
        "rate": float(row.rate),
        "portfolios": [portfolio.name for portfolio in portfolios],
        "readers": [
            ReaderView(node, len(lags), max(lags)) for node, lags in sorted(lags_by_node.items())
        ],
    }
    return FeedView(**known)


@dataclass(frozen=True, slots=True)
class RecordView:
    """One record of a feed, as a page shows it."""

    seq: int
    kind: str
    symbol: str
    at: datetime
    released_at: datetime
    price: Decimal | None


@dataclass(frozen=True, slots=True)
class GapView:
    """A time range for which a source reported that it has no data."""

    seq: int
    symbol: str
    begin: datetime
    end: datetime


def record_views(events: Sequence[Event]) -> list[RecordView]:
    """Return events as records for a page. Pure."""
    return [
        RecordView(
            event.seq,
            type(event).__name__.removeprefix("Scaled").lower(),  # ScaledBar → bar
            event.symbol,
            _from_us(event.time),
            _from_us(event.released),
            event.close if event.has_price else None,
        )
        for event in events
    ]


def gap_views(events: Sequence[Event]) -> list[GapView]:
    """Return the gaps among events. Pure."""
    return [
        GapView(event.seq, event.symbol, _from_us(event.from_us), _from_us(event.to_us))
        for event in events
        if isinstance(event, Gap)
    ]


def _from_us(at_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=at_us)
