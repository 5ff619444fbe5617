"""The market-data log, for checking a portfolio's record independently."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from portfolios.feed_registration import current_head
from portfolios.feeds import feed_names, open_feed
from portfolios.runtime.events import Event
from scheduling.api.base import ApiView
from scheduling.api.openapi import POSITIVE, described, query
from scheduling.api.pagination import read_int, read_limit
from scheduling.operations.feeds import find_feed
from scheduling.presentation.serializers.feeds import FeedDocument
from scheduling.recorded_feeds.reads import stored_events

HIGHEST_FEED_LIMIT = 5000

_EPOCH = datetime(1970, 1, 1)
#: The calendar repeats every 400 years, which have 146,097 days.
_CYCLE_US = 146_097 * 86_400 * 1_000_000


class FeedEvents(ApiView):
    """Released events."""

    @described(
        FeedDocument,
        parameters=[
            query("from", POSITIVE, "The first seq; by default the newest events."),
            query("limit", POSITIVE, "At most 5,000; by default 100."),
            query("feed", str, "Name of a feed; by default the packaged bars."),
        ],
        summary="Market events",
    )
    def get(self, request: Request) -> Response:
        """Return the events of [from, from + limit), up to the head."""
        limit = read_limit(request, highest=HIGHEST_FEED_LIMIT)
        name = request.query_params.get("feed", "")
        is_packaged = name in ("", *feed_names())
        replay = open_feed(name or None) if is_packaged else None
        recorded = None if is_packaged else find_feed(name)
        head = current_head(replay.name if replay else name)
        first = read_int(request, "from", max(head - limit + 1, 1), lowest=1)
        wanted = min(limit, head - first + 1)
        events: Sequence[Event] = []
        if wanted > 0 and replay:
            events = replay.read(first, wanted)
        elif wanted > 0 and recorded:
            events = stored_events(recorded, first, first + wanted - 1, wanted)
        results = [feed_event_document(event) for event in events]
        length = replay.length if replay else head
        return Response({"head": head, "length": length, "results": results})


def feed_event_document(event: Event) -> dict[str, Any]:
    """Return one event as a bar. Prices are texts with the decimal places of their symbol."""
    return {
        "seq": event.seq,
        "symbol": event.symbol,
        "time": bar_time(event.time),
        "open": str(event.open),
        "high": str(event.high),
        "low": str(event.low),
        "close": str(event.close),
        "volume": event.volume,
    }


def bar_time(time_us: int) -> str:
    """Return µs since the epoch as ISO 8601.

    Each lap of the replay adds a year to its times. At 100 events a second a lap takes a quarter of
    an hour, so within months the year has five digits, which ISO 8601 writes with a sign and
    `datetime` cannot hold.
    """
    cycles, rest_us = divmod(time_us, _CYCLE_US)
    at = _EPOCH + timedelta(microseconds=rest_us)
    year = at.year + 400 * cycles
    return f"{year:04}{at:-%m-%dT%H:%M:%S}Z" if year <= 9999 else f"+{year}{at:-%m-%dT%H:%M:%S}Z"
