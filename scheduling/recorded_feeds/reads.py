"""Records of a recorded feed, wherever it is kept, for code that is not asynchronous."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from django.conf import settings

from portfolios.feeds.log import LogError, LogUnavailable
from portfolios.models import FeedKind, FeedRow
from portfolios.runtime.events import Event, decode_event
from portfolios.sentences import sentence as _
from scheduling.db.transaction import execute_autocommit
from scheduling.errors import Refused
from scheduling.observe.feed_records import RecordRow, records

if TYPE_CHECKING:
    from scheduling.recorded_feeds.jetstream.stream import Stream

T = TypeVar("T")

#: How long one operation may take with all its questions to the NATS server: a server that answers
#: slowly must not occupy the threads that serve requests.
OPERATION_LIMIT_S = 8.0


def nats_url() -> str:
    """Return the address of the NATS server. Raise LogUnavailable without one."""
    url: str | None = settings.GINKGO.nats_url
    if url is None:
        raise LogUnavailable(
            _(
                "A feed in NATS JetStream cannot be reached: GINKGO_NATS_URL is not set for this "
                "process. Set it for web processes, workers, recorders and commands alike."
            )
        )
    return url


@asynccontextmanager
async def answered_within(limit_s: float) -> AsyncIterator[None]:
    """Raise LogUnavailable if the block takes longer, however many answers it waits for."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise LogUnavailable(
            f"The NATS server does not answer in time: one operation took over {limit_s:.0f} s."
            " Check its load, its disk and the network."
        ) from None


def stored_records(feed: FeedRow, from_seq: int, to_seq: int, limit: int) -> list[RecordRow]:
    """Return the first `limit` records from `from_seq` to `to_seq`, none after the head.

    Raise Refused 503 if the stream cannot be read.
    """
    if not feed.writer.in_stream:
        return execute_autocommit(records(feed.pk, from_seq, to_seq, limit))
    first, last = max(from_seq, feed.writer.first_seq), min(to_seq, feed.writer.head)
    if first > last:
        return []
    return _on_stream(feed.name, lambda stream: _stream_rows(stream, first, last, limit))


async def _stream_rows(stream: Stream, from_seq: int, to_seq: int, limit: int) -> list[RecordRow]:
    found = await stream.read(from_seq, to_seq, limit)
    return [
        RecordRow(seq, decode_event(event).symbol, released_us, event)
        for seq, released_us, event in found
    ]


def stored_events(feed: FeedRow, from_seq: int, to_seq: int, limit: int) -> list[Event]:
    """Return the first `limit` events from `from_seq` to `to_seq`, none after the head.

    Raise Refused 503 if the stream cannot be read.
    """
    rows = stored_records(feed, from_seq, to_seq, limit)
    return [decode_event(bytes(row.event)) for row in rows]


def newest_events(name: str, limit: int) -> list[Event]:
    """Return the newest events of a recorded feed, newest first; none if there is no such feed.

    Raise Refused 503 if the stream cannot be read.
    """
    feed = (
        FeedRow.objects.filter(name=name, kind=FeedKind.RECORDED).select_related("writer").first()
    )
    if feed is None:
        return []
    head = feed.writer.head
    return stored_events(feed, max(head - limit + 1, 1), head, limit)[::-1]


def create_stream(feed: str) -> None:
    """Create the stream of a new feed. Raise Refused 503, also if another stream has its name."""
    _on_stream(feed, lambda stream: stream.create())


def delete_stream(feed: str) -> None:
    """Delete the stream of a feed, if there is one. Raise Refused 503."""
    _on_stream(feed, lambda stream: stream.delete())


def _on_stream(feed: str, act: Callable[[Stream], Coroutine[Any, Any, T]]) -> T:
    """Return what `act` returns for the feed's stream, on a new connection. Raise Refused 503."""
    # Imported here: the NATS client takes 0.2 s to import, for nothing if no feed is in a stream.
    from scheduling.recorded_feeds.jetstream.stream import Stream, connected

    async def run() -> T:
        async with answered_within(OPERATION_LIMIT_S), connected(nats_url()) as client:
            return await act(Stream(client, feed))

    try:
        return asyncio.run(run())
    except LogError as error:
        raise Refused("feed_unavailable", str(error), status=503) from None
