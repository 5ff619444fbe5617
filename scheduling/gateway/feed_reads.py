"""Send nodes the records of recorded feeds, and let them wait for the next one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from channels.layers import get_channel_layer
from psycopg_pool import PoolTimeout

from scheduling.db.transaction import aexecute_autocommit
from scheduling.gateway.auth import NodeIdentity
from scheduling.gateway.http import RequestRejected
from scheduling.gateway.message_decoding import LARGEST, decode, uuid_of
from scheduling.gateway.node_limits import Admission
from scheduling.gateway.pool import work_connection, work_pool
from scheduling.gateway.stream_reads import STREAMS
from scheduling.observe.feed_records import HeadRow, RecordRow, heads, records
from scheduling.observe.node_files import needs_feed
from scheduling.wire.messages import MAX_FEED_RECORDS, MAX_FEED_WAIT_S, FeedAnswer, FeedRequest

logger = logging.getLogger(__name__)

GROUP = "feeds"  #: of the channel layer, to which each append sends a hint: (feed, head)
#: Interval of reading the heads while a node waits: a lost hint costs no more time than this.
POLL_S = 0.5
#: Least time between two wake-ups of nodes: a source may append a thousand times a second.
GATHER_S = 0.005
#: Bytes of one answer; about 90 a record.
MAX_ANSWER_BYTES = 1_000_000
KEPT_PAGES = 32
LISTEN_RETRY_S = 5.0


class FeedHeads:
    """The heads of recorded feeds as this process knows them. Nodes wait here for the next one.

    The hint of an append names the new head, so that it need not be read from the database. Nodes
    learn of a record at once, unless another one came less than GATHER_S before.
    """

    def __init__(self) -> None:
        self._heads: dict[str, HeadRow] = {}
        self._hinted: dict[int, int] = {}  #: feed → head, of the hints since the last read began
        self._hint = asyncio.Event()
        self._read_at = -math.inf
        self._waiting = 0
        self._moved = asyncio.Event()  #: set, and replaced by another, when a head has changed
        self._reading = asyncio.Lock()  #: so that many requests of one node take one connection

    async def read(self, feed: str | None = None) -> None:
        """Read the heads of all feeds, or of one, and wake waiting requests. One statement."""
        async with self._reading, work_pool().connection() as connection:
            self._apply_hints()  # those of feeds that are not read now
            self._hinted.clear()  # hints that come during the read are newer than it
            found = await aexecute_autocommit(connection, heads(feed))
        if feed is None:
            self._heads.clear()
            self._read_at = time.monotonic()
        self._heads.update((row.name, row) for row in found)
        self._apply_hints()
        self._wake()

    def take_hint(self, message: Mapping[str, Any]) -> None:
        """Note the head that an append has announced."""
        feed, head = message.get("feed"), message.get("head")
        if isinstance(feed, int) and isinstance(head, int):
            self._hinted[feed] = max(head, self._hinted.get(feed, 0))
        self._hint.set()

    def _apply_hints(self) -> None:
        """Raise the known heads to the announced ones. If one was raised, wake waiting requests."""
        behind = {
            name: head
            for name, row in self._heads.items()
            if (head := self._hinted.get(row.feed, 0)) > row.seq
        }
        for name, head in behind.items():
            self._heads[name] = self._heads[name]._replace(seq=head)
        if behind:
            self._wake()

    def _wake(self) -> None:
        """Wake all requests that wait in `wait_beyond`."""
        self._moved.set()
        self._moved = asyncio.Event()

    def knows(self, feed: str) -> bool:
        """Return whether `get` answers without a read."""
        return feed in self._heads

    async def get(self, feed: str) -> HeadRow:
        """Return the head of a feed that this process knows; read it if it knows none.

        Raise RequestRejected 404 if there is no such recorded feed.
        """
        if feed not in self._heads:
            await self.read(feed)
        if feed not in self._heads:
            raise RequestRejected(404, "not_found", f"There is no recorded feed {feed[:80]!r}.")
        return self._heads[feed]

    async def wait_beyond(self, feed: str, after: int, wait_s: float) -> HeadRow:
        """Return the head once it is not at `after` (lower: a restored feed), or after `wait_s`."""
        self._waiting += 1
        try:
            async with asyncio.timeout(wait_s):
                while (head := await self.get(feed)).seq == after:
                    await self._moved.wait()
                return head
        except TimeoutError:
            return await self.get(feed)
        finally:
            self._waiting -= 1

    def _due_s(self) -> float:
        """Return the seconds until the heads have to be read again."""
        return max(self._read_at + POLL_S - time.monotonic(), 0.0)

    async def watch(self) -> None:
        """Wake nodes at hints, and read the heads periodically while one waits. Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_receive_hints(self.take_hint))
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._due_s()):
                        await self._hint.wait()
                self._hint.clear()
                if self._due_s() > 0:
                    self._apply_hints()
                    await asyncio.sleep(GATHER_S)  # hints that come meanwhile wake nodes once
                elif not self._waiting:
                    self._forget()
                else:
                    try:
                        await self.read()
                    except (psycopg.Error, PoolTimeout) as error:
                        logger.info("heads of feeds were not read: %s", type(error).__name__)
                        await asyncio.sleep(POLL_S)

    def _forget(self) -> None:
        """Forget the heads and hints, unless a request is reading heads.

        Heads are read again only while a request waits; without one they would become old. A
        request that reads now may wait next, and needs the hints that came since its read began.
        """
        if not self._reading.locked():
            self._heads.clear()
            self._hinted.clear()
        self._read_at = time.monotonic()


async def _receive_hints(take: Callable[[Mapping[str, Any]], None]) -> None:
    """Call `take` with each hint of an append, whatever fails. Never returns."""
    layer: Any = get_channel_layer()
    while True:
        try:
            channel = await layer.new_channel(GROUP)
            try:
                await layer.group_add(GROUP, channel)
                while True:
                    take(await layer.receive(channel))
            finally:
                await layer.group_discard(GROUP, channel)
        except Exception as error:
            logger.warning("no hints of feeds: %s; heads are read every %g s", error, POLL_S)
            await asyncio.sleep(LISTEN_RETRY_S)


FEED_HEADS = FeedHeads()

#: (feed, first, last, oldest kept) → (monotonic time of the read, its records). Nodes share reads.
_pages: OrderedDict[tuple[int, int, int, int], tuple[float, list[RecordRow]]] = OrderedDict()
#: A page is used for at most this time: a database that was restored has other records.
PAGE_AGE_S = 1.0

#: (node, feed) → the monotonic time until which the node may read the feed without another look-up.
_admitted: dict[tuple[int, str], float] = {}
ADMITTED_S = 10.0
MAX_ADMITTED = 10_000


async def _admit(sender: NodeIdentity, feed: str) -> None:
    """Raise RequestRejected 403 unless a portfolio of the node needs the feed."""
    now = time.monotonic()
    if _admitted.get((sender.node, feed), 0.0) > now:
        return
    async with work_connection(sender.node) as connection:
        needed = await aexecute_autocommit(connection, needs_feed(sender.node, feed))
    if not needed:
        _admitted.pop((sender.node, feed), None)
        raise RequestRejected(
            403,
            "not_needed",
            f"No portfolio of node {sender.name} needs a recorded feed {feed[:80]!r}.",
        )
    if len(_admitted) >= MAX_ADMITTED:
        _admitted.clear()
    _admitted[sender.node, feed] = now + ADMITTED_S


async def _head_now(sender: NodeIdentity, feed: str) -> HeadRow:
    """Read the head of a feed now, within the share of the node, and return it."""
    async with Admission(sender.node, "work"):
        await FEED_HEADS.read(feed)
    return await FEED_HEADS.get(feed)


async def answer_feed(sender: NodeIdentity, body: bytes) -> FeedAnswer:
    """Return the records after a seq, waiting for the next one if there are none."""
    request = decode(body, FeedRequest)
    uuid_of(request.incarnation)  # raises if it is malformed
    if not -1 <= request.after <= LARGEST - MAX_FEED_RECORDS:
        raise RequestRejected(
            400,
            "invalid",
            f"`after` is {request.after}: give the last seq that is known, up to"
            f" {LARGEST - MAX_FEED_RECORDS}, or -1 to ask for the head only.",
        )
    await _admit(sender, request.feed)
    if request.after < 0 or not FEED_HEADS.knows(request.feed):
        head = await _head_now(sender, request.feed)
    else:
        head = await FEED_HEADS.get(request.feed)
    if request.after < 0:
        return FeedAnswer(head=head.seq, first_seq=head.first_seq)
    if head.seq <= request.after and request.wait_s > 0:
        wait_s = min(request.wait_s, MAX_FEED_WAIT_S)
        head = await FEED_HEADS.wait_beyond(request.feed, request.after, wait_s)
    if head.seq < request.after:
        # This process may know an older head than the node: read it before saying that it changed.
        head = await _head_now(sender, request.feed)
        if head.seq < request.after:
            return FeedAnswer(head=head.seq, first_seq=head.first_seq, changed=True)
    return await _page(sender, request, head)


async def _page(sender: NodeIdentity, request: FeedRequest, head: HeadRow) -> FeedAnswer:
    """Return the records after `after`, none if they were dropped.

    Nodes that ask for the same range share a read. The read includes the record at `after`, to
    compare it with that of the node.
    """
    if request.after + 1 < head.first_seq:
        return FeedAnswer(head=head.seq, first_seq=head.first_seq)
    first = max(request.after, head.first_seq, 1)
    last = min(head.seq, request.after + min(max(request.limit, 1), MAX_FEED_RECORDS))
    key = (head.feed, first, last, head.first_seq)
    read_at, rows = _pages.get(key, (-math.inf, []))
    if time.monotonic() - read_at > PAGE_AGE_S:
        if head.in_stream:
            rows = await STREAMS.read(sender.node, head, first, last)
        else:
            async with work_connection(sender.node) as connection:
                rows = await aexecute_autocommit(
                    connection, records(head.feed, first, last, MAX_FEED_RECORDS + 1)
                )
        _pages[key] = time.monotonic(), rows
        while len(_pages) > KEPT_PAGES:
            _pages.popitem(last=False)
    if rows and rows[0].seq == request.after:
        known, rows = rows[0], rows[1:]
        if request.released_us not in (0, known.released_us):  # 0: not known
            return FeedAnswer(head=head.seq, first_seq=head.first_seq, changed=True)
    if rows and rows[0].seq != request.after + 1:
        # Were the next records dropped since the head was read? If not, they are missing, and the
        # node notices the gap.
        head = await _head_now(sender, request.feed)
        if request.after + 1 < head.first_seq:
            return FeedAnswer(head=head.seq, first_seq=head.first_seq)
    return FeedAnswer(head=head.seq, first_seq=head.first_seq, events=_events_that_fit(rows))


def _events_that_fit(rows: list[RecordRow]) -> list[bytes]:
    """Return the encoded events of the first rows, as many as one answer holds."""
    events, size = [], 0
    for row in rows:
        size += len(row.event)
        if size > MAX_ANSWER_BYTES:
            break
        events.append(bytes(row.event))
    return events
