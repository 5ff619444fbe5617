"""Records of feeds in streams, over one connection of this process to the NATS server.

Nodes get them from here as they get those of the database: they need no access to NATS, and what a
node may read is decided in one place.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING

from portfolios.feeds.log import LogError
from scheduling.gateway.http import RequestRejected
from scheduling.gateway.node_limits import Admission
from scheduling.observe.feed_records import HeadRow, RecordRow
from scheduling.recorded_feeds.jetstream.block_cache import BlockCache
from scheduling.recorded_feeds.reads import OPERATION_LIMIT_S, answered_within, nats_url

if TYPE_CHECKING:
    from nats.aio.client import Client

    from scheduling.recorded_feeds.jetstream.stream import Stream

MAX_STREAMS = 64  #: kept open
KEPT_BYTES = 64_000_000  #: of messages kept in memory, of all streams together
NEWEST = 500  #: a read that starts less than so many records before the head waits for no other
OLDER_READS = 4  #: concurrent reads of earlier records


class StreamReads:
    """Reads records from streams for nodes, over one connection to NATS.

    Nodes that ask for the same records at the same time share a read.
    """

    def __init__(self) -> None:
        """Connect at the first read."""
        self._client: Client | None = None
        self._streams: dict[int, Stream] = {}  #: by the id of the feed
        self._heads: dict[int, int] = {}  #: newest seq, by the id of the feed
        self._kept = BlockCache(KEPT_BYTES)
        self._connecting = asyncio.Lock()
        #: (feed, first seq, last seq) → the read in progress
        self._reading: dict[tuple[int, int, int], asyncio.Task[list[RecordRow]]] = {}
        self._older = asyncio.Semaphore(OLDER_READS)

    async def read(self, node: int, head: HeadRow, first: int, last: int) -> list[RecordRow]:
        """Return the records from `first` to `last` of the feed of `head`, within the node's share.

        Raise RequestRejected 429 or 503.
        """
        # Compared before anything is awaited, so that no request overtakes another.
        if head.seq < self._heads.get(head.feed, 0):
            self._streams.pop(head.feed, None)  # the feed was restored, and has other messages
        self._heads[head.feed] = head.seq
        if first > last:
            return []
        async with Admission(node, "stream"):
            key = head.feed, first, last
            if key not in self._reading:
                self._reading[key] = asyncio.create_task(self._read(head, first, last))
                self._reading[key].add_done_callback(lambda _: self._reading.pop(key))
            return await asyncio.shield(self._reading[key])  # others may wait for it too

    async def _read(self, head: HeadRow, first: int, last: int) -> list[RecordRow]:
        """Read a range from its stream. Raise RequestRejected 503 if NATS does not answer."""
        try:
            async with answered_within(OPERATION_LIMIT_S):
                stream = await self._stream(head)
                # Nodes that follow do not wait for those that catch up.
                async with nullcontext() if head.seq - first < NEWEST else self._older:
                    found = await stream.read(first, last, last - first + 1)
        except LogError as away:
            raise RequestRejected(503, "unavailable", str(away)) from None
        return [RecordRow(seq, "", released_us, event) for seq, released_us, event in found]

    async def _stream(self, head: HeadRow) -> Stream:
        """Return the stream of a feed, over a connection that is opened if there is none."""
        # The client of NATS takes 0.2 s to import: not at each start of an installation without it.
        from scheduling.recorded_feeds.jetstream.stream import Stream, connect

        async with self._connecting:
            if self._client is None or self._client.is_closed:
                self._streams.clear()
                self._client = await connect(nats_url())
            if head.feed not in self._streams:
                if len(self._streams) >= MAX_STREAMS:
                    self._streams.clear()
                self._streams[head.feed] = Stream(self._client, head.name, self._kept)
            return self._streams[head.feed]

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


STREAMS = StreamReads()
