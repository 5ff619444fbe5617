"""One stream of a NATS server: publish after a known last message, and read.

Every failure is a `LogError` with a sentence. The address of the server, which may carry a
password, is in none of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
from msgspec.structs import replace
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from portfolios.feeds.log import HeadMoved, LogError, LogUnavailable
from portfolios.runtime.events import split_events
from portfolios.sentences import sentence as _
from scheduling.recorded_feeds.jetstream.block import (
    EMPTY,
    Block,
    Piece,
    decode_block,
    encode_block,
)
from scheduling.recorded_feeds.jetstream.block_cache import EVENT_BYTES, BlockCache

logger = logging.getLogger(__name__)

CONNECT_S, ANSWER_S = 2, 3.0
CLOSE_S = 1.0  #: a server that is frozen takes nothing that waits to be sent
RECONNECT_S = 0.1
KEPT_BYTES = 16_000_000  #: of messages, kept by a stream that shares no cache with others
KEPT_RANGES = 256  #: messages whose seqs are remembered, to find the next one without a search
#: The most messages requested at once, and bytes if each is as large as the largest before.
READ_AT_ONCE, READ_AT_ONCE_BYTES = 64, 4_000_000
HEADERS_ROOM = 4_096  #: bytes of the largest message that are left for its headers
#: Pieces that no append names after this time are of a process that was killed.
ORPHANED_AFTER = timedelta(days=1)
#: Error codes of JetStream.
STREAM_NOT_FOUND, WRONG_LAST, NAME_IN_USE = 10059, 10071, 10058
RESTORE = "restore the stream from its backup (docs/mechanisms/backup.md)"

T = TypeVar("T")


class StreamMissing(LogError):
    """The stream is missing, lacks records or messages, or is not that of the feed."""


class WrongLast(HeadMoved):
    """Another message came first. Nothing was stored."""


def _no_answer(error: Exception) -> LogUnavailable:
    kind = type(error).__name__
    return LogUnavailable(_("The NATS server does not answer ({kind}).", kind=kind))


def _no_message(name: str, number: int) -> StreamMissing:
    return StreamMissing(
        _("Stream {name} has no message {number}: restore its backup.", name=name, number=number)
    )


def stream_name(feed: str) -> str:
    """Return the name of the stream of a feed."""
    return f"GINKGO_FEED_{feed}"


def pieces_name(feed: str) -> str:
    """Return the name of the stream of pieces, unique since names of feeds have no underscore."""
    return f"GINKGO_FEED_{feed}_pieces"


def subject(feed: str) -> str:
    """Return the subject of the messages of a feed."""
    return f"ginkgo.feed.{feed}"


async def connect(url: str, *, is_lasting: bool = True) -> Client:
    """Return a connection. If `is_lasting`, it is restored after a loss. Raise LogUnavailable."""
    client = Client()

    async def ignore(error: Exception) -> None:
        """Do nothing: the caller of a failed request reports the failure."""

    async def log_loss() -> None:
        if client.is_reconnecting:
            logger.warning("the connection to the NATS server is lost; connecting again")

    async def log_return() -> None:
        logger.info("connected to the NATS server again")

    try:
        await asyncio.wait_for(
            client.connect(
                url,
                name="ginkgo",
                connect_timeout=CONNECT_S,
                allow_reconnect=is_lasting,
                reconnect_time_wait=RECONNECT_S,  # type: ignore[arg-type]  # a float works
                max_reconnect_attempts=-1 if is_lasting else 1,  # -1: without end
                ping_interval=5,
                max_outstanding_pings=2,
                error_cb=ignore,
                disconnected_cb=log_loss,
                reconnected_cb=log_return,
            ),
            CONNECT_S + 1,
        )
    except (NatsError, OSError, TimeoutError) as error:
        await close(client)
        raise _no_answer(error) from None
    except ValueError:
        raise LogUnavailable(
            _("GINKGO_NATS_URL is not an address such as nats://host:4222.")
        ) from None
    return client


async def close(client: Client) -> None:
    """Close a connection, whatever waits to be sent over it."""
    with suppress(NatsError, OSError, TimeoutError):
        await asyncio.wait_for(client.close(), CLOSE_S)


@asynccontextmanager
async def connected(url: str, *, is_lasting: bool = False) -> AsyncIterator[Client]:
    """Lend a connection that is closed at the end of the block."""
    client = await connect(url, is_lasting=is_lasting)
    try:
        yield client
    finally:
        await close(client)


def stream_config(name: str, stream_subject: str, *, deny_delete: bool = False) -> StreamConfig:
    """Return the configuration of a stream on the server's disk that refuses messages when full."""
    return StreamConfig(
        name=name,
        subjects=[stream_subject],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,  # a full stream refuses, and drops nothing
        deny_delete=deny_delete,
        allow_direct=True,
    )


class Stream:
    """The stream of one feed."""

    def __init__(self, client: Client, feed: str, kept: BlockCache | None = None) -> None:
        """Ask nothing yet."""
        self.feed, self._name = feed, stream_name(feed)
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=ANSWER_S)
        self._kept = kept or BlockCache(KEPT_BYTES)
        #: Part of every key in the cache. A new mark makes this stream forget what it has cached.
        self._connection_mark = object()
        #: Message number → (first, last seq), the most recently used last.
        self._ranges: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._reconnects = 0

    def _forget_after_reconnect(self) -> None:
        """Forget what was read over an earlier connection: the server may have been restored."""
        if self._reconnects != self._client.stats["reconnects"]:
            self._reconnects = self._client.stats["reconnects"]
            self._connection_mark = object()
            self._ranges.clear()

    async def create(self) -> None:
        """Create the stream, empty. Raise StreamMissing if another one has its name."""
        config = stream_config(self._name, subject(self.feed), deny_delete=True)
        try:
            info = await self._answer(self._js.add_stream(config))
        except APIError as error:
            if error.err_code != NAME_IN_USE:
                raise
            info = None
        if info is None or info.state.messages:
            raise StreamMissing(
                f"The NATS server has a stream {self._name} already, perhaps of another"
                " installation: choose another name for the feed, or delete the stream if nothing"
                " uses it."
            )

    async def delete(self) -> None:
        """Delete the stream, if there is one, and then its pieces."""
        for name in (self._name, pieces_name(self.feed)):
            with suppress(StreamMissing):
                await self._answer(self._js.delete_stream(name))

    async def last(self) -> tuple[int, Block]:
        """Return the number of the newest message and its block; (0, EMPTY) without one."""
        try:
            message = await self._answer(self._js.get_last_msg(self._name, subject(self.feed)))
        except NotFoundError:
            return 0, EMPTY
        assert message.seq is not None
        return message.seq, self._keep(message.seq, self._decode(message.seq, message.data))

    async def first_number(self) -> int:
        """Return the number of the oldest message that is kept."""
        return int((await self._answer(self._js.stream_info(self._name))).state.first_seq)

    async def publish(self, block: Block, last: int) -> tuple[int, Block]:
        """Store a block after message number `last`; return its number and the block as stored.

        Raise WrongLast, or LogUnavailable: in that case the block may be stored or not.
        """
        body, room = encode_block(block), self._client.max_payload - HEADERS_ROOM
        if len(body) > room:
            block = await self._store_pieces(block, room)
            body = encode_block(block)
        try:
            number = await self._publish_after(body, last)
        except WrongLast:
            await self._delete_pieces([piece.number for piece in block.pieces])
            raise
        return number, self._keep(number, block)

    async def _publish_after(self, body: bytes, last: int) -> int:
        """Store one message and return its number. Raise WrongLast if `last` is not the newest."""
        headers = {str(Header.EXPECTED_LAST_SEQUENCE.value): str(last)}
        try:
            stored = await self._answer(
                self._js.publish(subject(self.feed), body, ANSWER_S, self._name, headers)
            )
        except APIError as error:
            if error.err_code != WRONG_LAST:
                raise
            raise WrongLast(
                f"Feed {self.feed} has grown, or another writer has claimed it, since its head was"
                " read: read the head again."
            ) from None
        return int(stored.seq)

    async def _store_pieces(self, block: Block, room: int) -> Block:
        """Store the events of a block as pieces; return the block that names them instead.

        Nobody reads the pieces until that block is stored. If one cannot be stored, those before
        it are deleted.
        """
        name, where = pieces_name(self.feed), f"{subject(self.feed)}.pieces"
        await self._answer(self._js.add_stream(stream_config(name, where)), name)
        # Another writer may have stored messages since the one that `block` follows: only pieces
        # after those of the newest message are orphans.
        _, newest = await self.last()
        await self._delete_orphans(newest.piece)
        stored: list[Piece] = []
        try:
            for to_seq, events in block.in_pieces(room):
                done = await self._answer(self._js.publish(where, events, ANSWER_S, name), name)
                stored.append(Piece(to_seq, int(done.seq)))
        except LogError:
            await self._delete_pieces([piece.number for piece in stored])
            raise
        return replace(block, events=b"", pieces=stored, piece=stored[-1].number)

    async def _delete_pieces(self, numbers: list[int]) -> None:
        """Delete pieces that no append names. The next large append deletes what this cannot."""
        with suppress(LogError, APIError):
            for number in numbers:
                await self._answer(self._js.delete_msg(pieces_name(self.feed), number))

    async def _delete_orphans(self, named: int) -> None:
        """Delete the pieces after number `named` that are a day old: no append will name them."""
        name = pieces_name(self.feed)
        state = (await self._answer(self._js.stream_info(name), name)).state
        for number in range(max(state.first_seq, named + 1), state.last_seq + 1):
            try:
                message = await self._answer(self._js.get_msg(name, number), name)
            except NotFoundError:
                continue  # deleted before
            if message.time is None or datetime.now(UTC) - message.time < ORPHANED_AFTER:
                return  # all later ones are younger
            await self._delete_pieces([number])

    async def block(self, number: int) -> Block:
        """Return the block of one message. Raise LogUnavailable or StreamMissing."""
        self._forget_after_reconnect()
        kept: Block | None = self._kept.get((self._connection_mark, "block", number))
        if kept is not None:
            self._note_range(number, kept)
            return kept
        # First any replica, which may lag behind; if it lacks the message, the leader.
        for direct in (True, False):
            try:
                message = await self._answer(self._js.get_msg(self._name, number, direct=direct))
            except NotFoundError:
                continue
            self._check_number(self._name, number, message.seq)
            return self._keep(number, self._decode(number, message.data))
        raise _no_message(self._name, number)

    async def block_of(self, seq: int) -> Block:
        """Return the block that has the record `seq`."""
        block = EMPTY
        number = await self.number_of(seq)
        before = None
        while block.to_seq < seq:  # a block without records, a writer's claim, may come before it
            block = await self.block(number)
            self._check_continues(number, before, block, seq)
            number, before = number + 1, block
        return block

    async def read(self, from_seq: int, to_seq: int, limit: int) -> list[tuple[int, int, bytes]]:
        """Return (seq, release time, encoded event) of the first `limit` records of a range.

        The caller knows that they are stored. Reads one message first, then several at once.
        """
        found: list[tuple[int, int, bytes]] = []
        number, at_once = await self.number_of(from_seq), 1
        last = min(to_seq, from_seq + limit - 1)
        next_seq, before = from_seq, None
        while next_seq <= last:
            blocks = await asyncio.gather(*(self.block(number + n) for n in range(at_once)),
                                          return_exceptions=True)  # fmt: skip
            for block in blocks:
                if next_seq > last:
                    break
                if isinstance(block, BaseException):
                    raise block
                self._check_continues(number, before, block, next_seq)
                number, before = number + 1, block
                for seq, event in await self._records(block, next_seq, last):
                    if next_seq <= seq <= last:
                        found.append((seq, block.released_us, event))
                next_seq = max(next_seq, block.to_seq + 1)
            largest = max(len(block.events) for block in blocks if isinstance(block, Block))
            at_once = min(at_once * 4, READ_AT_ONCE, READ_AT_ONCE_BYTES // max(largest, 1))
            # Nearly every message has a record or more: request no more than records are missing.
            at_once = max(min(at_once, last - next_seq + 1), 1)
        return found

    async def _records(self, block: Block, first: int, last: int) -> list[tuple[int, bytes]]:
        """Return (seq, encoded event) of a block's records from `first` to `last`, or of all."""
        if not block.pieces:  # the block holds its events itself
            self._check_count(self._name, block.records(), block.from_seq, block.to_seq)
            return list(enumerate(block.records(), start=block.from_seq))
        found: list[tuple[int, bytes]] = []
        begin = block.from_seq
        for piece in block.pieces:
            if piece.to_seq >= first and begin <= last:
                events = await self._piece(piece.number)
                self._check_count(pieces_name(self.feed), events, begin, piece.to_seq)
                at = max(first, begin)
                found += enumerate(events[at - begin : last - begin + 1], start=at)
            begin = piece.to_seq + 1
        return found

    def _check_number(self, name: str, number: int, answered: int | None) -> None:
        """Raise StreamMissing if the server answered with another message."""
        if answered != number:
            raise StreamMissing(
                f"Asked for message {number} of stream {name}, the NATS server answers with message"
                f" {answered}: {RESTORE}."
            )

    def _check_continues(self, number: int, before: Block | None, block: Block, at: int) -> None:
        """Raise StreamMissing unless the block of message `number` continues the log.

        It has to begin after the block `before`; without one, at the wanted seq `at` or earlier. A
        writer's claim has no record: its last seq is the one before its first.
        """
        expected = at if before is None else before.to_seq + 1
        follows = block.from_seq == expected or (before is None and block.from_seq < at)
        if not follows or block.to_seq < block.from_seq - 1:
            raise StreamMissing(
                f"Message {number} of stream {self._name} has seq {block.from_seq} to"
                f" {block.to_seq} where seq {expected} is expected: records are missing or out of"
                f" order; {RESTORE}."
            )

    def _check_count(self, name: str, events: list[bytes], first: int, last: int) -> None:
        """Raise StreamMissing unless there is one event for each seq of [first, last]."""
        if len(events) != last - first + 1:
            raise StreamMissing(
                f"A message of stream {name} has {len(events)} records for seq {first} to {last}:"
                f" {RESTORE}."
            )

    async def _piece(self, number: int) -> list[bytes]:
        """Return the encoded events of one piece."""
        self._forget_after_reconnect()
        key = self._connection_mark, "piece", number
        events: list[bytes] | None = self._kept.get(key)
        if events is None:
            name = pieces_name(self.feed)
            try:
                message = await self._answer(self._js.get_msg(name, number), name)
            except NotFoundError:
                raise _no_message(name, number) from None
            self._check_number(name, number, message.seq)
            data = message.data or b""
            events = split_events(data)
            self._kept.put(key, events, len(data) + EVENT_BYTES * len(events))
        return events

    async def drop_before(self, seq: int) -> None:
        """Drop the messages whose records are all older than `seq`, and then their pieces."""
        number, first = await self.number_of(seq), await self.first_number()
        if number > first:
            await self._answer(self._js.purge_stream(self._name, seq=number))
        # Also if no message was dropped: an earlier call may have failed before it came to pieces.
        oldest = await self.block(max(number, first))
        if oldest.piece:
            name = pieces_name(self.feed)
            kept = oldest.pieces[0].number if oldest.pieces else oldest.piece + 1
            await self._answer(self._js.purge_stream(name, seq=kept), name)

    async def number_of(self, seq: int) -> int:
        """Return the number of the message that has the record `seq`, or of a claim just before it.

        Found by bisection, unless the message or the one before it was read lately.
        """
        self._forget_after_reconnect()
        for number, (first, last) in reversed(self._ranges.items()):
            if first <= seq <= last:
                return number
            if last == seq - 1 and first <= last:  # the last record before `seq` is in this message
                return number + 1  # perhaps a claim, which has no record: the caller skips it
        low, (high, _block) = await self.first_number(), await self.last()
        while low < high:
            middle = (low + high) // 2
            if (await self.block(middle)).to_seq < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def _decode(self, number: int, data: bytes | None) -> Block:
        try:
            return decode_block(data or b"")
        except msgspec.MsgspecError:
            raise StreamMissing(
                _(
                    "Message {number} of stream {name} was not written by Ginkgo, or is damaged: "
                    "restore the stream from its backup (docs/mechanisms/backup.md), and let "
                    "nobody else publish to {subject}.",
                    number=number,
                    name=self._name,
                    subject=subject(self.feed),
                )
            ) from None

    def _keep(self, number: int, block: Block) -> Block:
        """Keep the block of a message for later reads, and return it."""
        self._kept.put((self._connection_mark, "block", number), block, len(block.events))
        self._note_range(number, block)
        return block

    def _note_range(self, number: int, block: Block) -> None:
        """Remember the seqs of a message, by which `number_of` finds it and the next one."""
        self._ranges[number] = block.from_seq, block.to_seq
        self._ranges.move_to_end(number)
        while len(self._ranges) > KEPT_RANGES:
            self._ranges.popitem(last=False)

    async def _answer(self, asked: Awaitable[T], name: str = "") -> T:
        """Return the server's answer about stream `name`, by default that of the messages.

        Raise StreamMissing if the server has no such stream, LogUnavailable if it does not answer
        or cannot serve it. An APIError that answers the question itself is raised as it is.
        """
        try:
            # Also limits the wait for room to send, which the client does not.
            async with asyncio.timeout(ANSWER_S + 1):
                return await asked
        except APIError as error:
            if error.err_code == STREAM_NOT_FOUND:
                raise StreamMissing(
                    _(
                        "The NATS server has no stream {name}, in which feed {feed} is kept: "
                        "restore it, or the feed's records are lost.",
                        name=name or self._name,
                        feed=self.feed,
                    )
                ) from None
            if error.err_code in (NAME_IN_USE, WRONG_LAST) or isinstance(error, NotFoundError):
                raise
            why = error.description or _("JetStream is not ready")
            raise LogUnavailable(
                _(
                    "The NATS server stores and reads nothing of feed {feed} now: {why}.",
                    feed=self.feed,
                    why=why,
                )
            ) from None
        except (NatsError, OSError, TimeoutError) as error:
            raise _no_answer(error) from None
