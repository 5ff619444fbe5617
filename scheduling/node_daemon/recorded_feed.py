"""A recorded feed on one node: the newest records in a ring, older ones in a few pages."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import NamedTuple

import msgspec

from portfolios.feeds.history import WARM_UP_SPAN
from portfolios.runtime.events import Event, decode_event, join_events
from scheduling.node_daemon.clock import boottime_us
from scheduling.node_daemon.control_plane_client import ControlPlaneClient, back_off, patiently
from scheduling.node_daemon.errors import (
    NodeError,
    RecordsMissing,
    RegistrationRefused,
    RequestRefused,
    ServerUnavailable,
)
from scheduling.node_daemon.feed_reader import Listeners
from scheduling.node_daemon.feed_time import FeedTime
from scheduling.node_daemon.logs import LOG
from scheduling.wire.messages import MAX_FEED_RECORDS, MAX_FEED_WAIT_S, FeedAnswer, FeedRequest

RING = 16_384  #: records; about 150 bytes each
PAGE = 2_000  #: records of a page
PAGES = 16  #: portfolios that catch up at different places share these
UNKNOWN_AGE_S = 1e9  #: of a record that is not loaded: older than any limit


class Record(NamedTuple):
    """One record, encoded as in the database."""

    symbol: str
    released_us: int
    encoded: bytes


class RecordedFeedReader(Listeners):
    """Reads a recorded feed through the gateway, once for all portfolios of the node.

    `run` follows the head and keeps the newest records; `load` fetches older ones for a portfolio
    that catches up.
    """

    segment_start_us = 0  #: there are no segments: the release time is part of each record

    def __init__(
        self, name: str, client: ControlPlaneClient, feed_time: FeedTime, incarnation: str
    ) -> None:
        super().__init__()
        self.name = name
        self._client = client
        self._time = feed_time
        self._incarnation = incarnation
        self._records: dict[int, Record] = {}
        self._oldest, self._newest = 1, -1  #: seqs of the ring; -1: the head is not known yet
        self._head = 0
        self._pages: OrderedDict[int, list[Record]] = OrderedDict()  #: n holds n * PAGE + 1 and on
        self._task: asyncio.Task[None] | None = None
        self._version = 0  #: raised when the records that were read are forgotten

    def start(self) -> None:
        """Begin to follow. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self.run(), name=f"feed {self.name}")

    def end(self) -> None:
        """Stop following the feed."""
        if self._task is not None:
            self._task.cancel()

    def read_again(self) -> None:
        """Forget all records and read anew: they may have changed, as a commit was refused."""
        self._version += 1
        self._records.clear()
        self._pages.clear()
        self._oldest, self._newest, self._head = 1, -1, 0  # -1: the head is not known
        if self._task is not None:
            self._task.cancel()  # it may wait for the successor of a record that is forgotten now
            self._task = None
            self.start()

    # --- methods that `FeedReader` has too ---------------------------------------------------

    def head(self, age_us: int = 0) -> int:
        """Return the newest known seq. `age_us`, which other feeds have, has no effect here."""
        return self._head

    def stale_head(self, cursor: int, age_us: int) -> int:
        """Return the last loaded seq after `cursor` that is `age_us` old or more, else `cursor`."""
        latest_us = self._time.at(boottime_us()) - age_us
        low, high = cursor, self._loaded_to(cursor)
        while low < high:  # release times do not go back
            middle = (low + high + 1) // 2
            record = self._record(middle)
            if record is not None and record.released_us <= latest_us:
                low = middle
            else:
                high = middle - 1
        return low

    def age_s(self, seq: int) -> float:
        """Return the seconds since the release of `seq`; `UNKNOWN_AGE_S` if it is not loaded."""
        record = self._record(seq)
        if record is None:
            return UNKNOWN_AGE_S
        return (self._time.at(boottime_us()) - record.released_us) / 1e6

    def record_hash(self, seq: int) -> bytes:
        """Return the sha256 of a record as the database computes it; empty if it is not loaded."""
        record = self._record(seq)
        return b"" if record is None else sha256(record.encoded).digest()

    def batch(
        self, cursor: int, symbols: frozenset[str] | None, head: int, max_events: int, max_span: int
    ) -> tuple[bytes, int]:
        """Return (encoded events, to_seq): see `Ring.batch`. Only records that are loaded count."""
        last = min(head, cursor + max_span, self._loaded_to(cursor))
        found: list[bytes] = []
        for seq in range(cursor + 1, last + 1):
            record = self._record(seq)
            assert record is not None  # `_loaded_to` is gapless
            if symbols is None or record.symbol in symbols or not record.symbol:  # "": for all
                found.append(record.encoded)
                if len(found) == max_events:
                    return join_events(found), seq
        return join_events(found), max(last, cursor)

    async def load(self, cursor: int) -> bool:
        """Fetch the records after `cursor` unless they are loaded. Return False if the gateway does
        not answer now or the head is not known. Raise RecordsMissing if one was dropped or lost."""
        if cursor >= self._head or self._loaded_to(cursor) > cursor:
            return self._newest >= 0
        page, version = cursor // PAGE, self._version
        before_page, dropped = page * PAGE, 0
        try:
            answer = await self._ask(before_page, limit=PAGE)
            if cursor + 1 < answer.first_seq:
                raise RecordsMissing(
                    f"feed {self.name} keeps its records from seq {answer.first_seq} on, and seq"
                    f" {cursor + 1} is needed: restore the older records from a backup"
                )
            if before_page + 1 < answer.first_seq:  # the feed dropped the first records of the page
                dropped = cursor - before_page
                answer = await self._ask(cursor, limit=PAGE)
        except (ServerUnavailable, RequestRefused, RegistrationRefused) as error:
            LOG.info("records of feed %s were not read: %s", self.name, error)
            return False
        records = self._records_of(answer.events, before_page + dropped + 1)
        if version != self._version:
            return False  # the answer may be older than what made the node forget its records
        self._pages[page] = ([_DROPPED] * dropped + records)[:PAGE]
        self._pages.move_to_end(page)
        while len(self._pages) > PAGES:
            self._pages.popitem(last=False)
        return self._loaded_to(cursor) > cursor

    async def history(self, symbols: frozenset[str] | None, to_seq: int, count: int) -> list[Event]:
        """Return the newest `count` events of `symbols` (None: all) up to `to_seq`: see
        `feeds/history.py`. Waits for a gateway that is away."""
        found: list[Event] = []
        end, before = to_seq, max(to_seq - WARM_UP_SPAN, 0)

        async def ask(after: int) -> tuple[int, FeedAnswer]:
            """Return the seq before the first kept record in (after, end], and these records."""
            answer = await self._ask(after, limit=end - after)
            if after + 1 < answer.first_seq <= end:
                after = answer.first_seq - 1
                answer = await self._ask(after, limit=end - after)
            return after, answer

        while len(found) < count and end > before:
            page = partial(ask, max(end - PAGE, before))
            after, answer = await patiently(f"the history of feed {self.name}", page)
            self._records_of(answer.events, after + 1)  # raises if a record is missing
            events = [decode_event(encoded) for encoded in answer.events]
            if not events:
                break  # the feed no longer keeps the records of this range
            # A record without a symbol, such as a gap of the whole feed, is not an event.
            wanted = [e for e in events if e.symbol and (symbols is None or e.symbol in symbols)]
            found = wanted + found
            end = after if after >= answer.first_seq else 0  # 0: no older record is kept
        return found[-count:] if count else []

    # --- following the head ------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the head until cancelled, however often the gateway is away."""
        failures = 0
        while True:
            try:
                await self._follow_once()
                failures = 0
            except (
                ServerUnavailable, RequestRefused, RegistrationRefused, RecordsMissing,
            ) as error:  # fmt: skip
                if failures in (0, 5) or failures % 60 == 0:
                    LOG.warning("feed %s is not read: %s", self.name, error)
                await back_off(failures, 0.1, 1.0)
                failures += 1
            except (NodeError, msgspec.MsgspecError, ValueError):
                LOG.exception("feed %s: the gateway's answer is not valid; asking again", self.name)
                await asyncio.sleep(1.0)

    async def _follow_once(self) -> None:
        """Ask for the next records, or for the head if it is not known, and apply the answer."""
        if self._newest < 0:
            answer = await self._ask(-1)
            self._forget(answer.head)
            return
        known = self._records.get(self._newest)
        answer = await self._ask(
            self._newest, known.released_us if known else 0, wait_s=MAX_FEED_WAIT_S
        )
        if answer.changed:
            LOG.warning("feed %s went back to seq %d: its records are read again", self.name,
                        answer.head)  # fmt: skip
            self._forget(answer.head)
            return
        self._add(self._records_of(answer.events, self._newest + 1))
        self._head = max(answer.head, self._newest)

    def _forget(self, head: int) -> None:
        """Forget every record; follow the feed from `head` on."""
        self._version += 1
        self._records.clear()
        self._pages.clear()
        self._oldest, self._newest, self._head = head + 1, head, head
        self._wake(None)

    def _add(self, records: list[Record]) -> None:
        """Append records to the ring, and wake the listeners of their symbols.

        A record without a symbol wakes all of them.
        """
        for record in records:
            self._newest += 1
            self._records[self._newest] = record
            if self._newest - self._oldest >= RING:
                del self._records[self._oldest]
                self._oldest += 1
        self._head = max(self._head, self._newest)
        symbols = {record.symbol for record in records}
        if symbols:
            self._wake(None if "" in symbols else symbols)

    async def _ask(
        self, after: int, released_us: int = 0, *, limit: int = MAX_FEED_RECORDS, wait_s: float = 0
    ) -> FeedAnswer:
        """Ask for the records after `after` (-1: only for the head). See also `FeedRequest`."""
        return await self._client.feed(
            FeedRequest(
                incarnation=self._incarnation,
                feed=self.name,
                after=after,
                released_us=released_us,
                limit=limit,
                wait_s=wait_s,
            )
        )

    def _records_of(self, encoded: Sequence[bytes], first: int) -> list[Record]:
        """Decode records, whose seqs must be `first` and on. Raise RecordsMissing at a gap."""
        records = []
        for seq, data in enumerate(encoded, start=first):
            event = decode_event(data)
            if event.seq != seq:
                raise RecordsMissing(
                    f"record {seq} of feed {self.name} is missing: the database has {event.seq}"
                    f" after {seq - 1}; run manage.py feed check {self.name}, and restore the"
                    " missing records from a backup"
                )
            records.append(Record(event.symbol, event.released, data))
        return records

    # --- what is loaded ----------------------------------------------------------------------

    def _record(self, seq: int) -> Record | None:
        """Return a record from the ring or a page; None if it is not loaded."""
        record = self._records.get(seq)
        if record is None:
            number, place = divmod(seq - 1, PAGE)
            page = self._pages.get(number, [])
            record = page[place] if place < len(page) else None
        return None if record is _DROPPED else record

    def _loaded_to(self, cursor: int) -> int:
        """Return up to which seq the records after `cursor` are loaded, in its page or the ring."""
        if cursor + 1 >= self._oldest:
            return self._newest
        number, place = divmod(cursor, PAGE)
        page = self._pages.get(number, [])
        if place >= len(page) or page[place] is _DROPPED:
            return cursor
        return number * PAGE + len(page)


#: In a page, stands for a record that the feed no longer keeps.
_DROPPED = Record("", 0, b"")
