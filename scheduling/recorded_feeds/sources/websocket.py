"""A websocket that sends market data as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from portfolios.feeds.messages import MessageLayout, NotUnderstood, read_message
from portfolios.feeds.rows import WrongMessage, time_text
from portfolios.text import escape_unprintable
from scheduling.recorded_feeds.sources.base import Item, SourceLost

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 4_000_000
FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0
OPEN_S = 10.0
PING_S = 20.0  #: between two pings; a connection is closed if one is not answered for as long
MAX_NUMBERED = 1_000  #: symbols with numbers of their own, all of which are part of every cursor
MAX_SYMBOL_CHARS = 24  #: as many as a record's symbol may have
LAST_NUMBER = "{last_number}"  #: placeholder in `Subscription.send`
ALL = ""  #: the key of numbers that count all symbols together


class Subscription(NamedTuple):
    """Where to connect, and what to send first."""

    url: str
    send: Sequence[str] = ()  #: `{last_number}` becomes the number of the newest record
    headers: Mapping[str, str] = {}
    #: Whether numbers count the rows of each symbol, not of all.
    per_symbol: bool = False
    #: Whether numbers begin anew with each connection: then none says what was missed between two.
    numbers_restart: bool = False


class Position(NamedTuple):
    """What a cursor keeps of one row."""

    key: str  #: the symbol whose rows the number counts, or ALL
    number: int | None
    arrived_us: int


class WebsocketSource:
    """The rows of a websocket, with a gap wherever the source or a lost connection left rows out.

    Repeats are recognized by their numbers. Without numbers nobody can say what was missed while a
    connection was lost, so a gap from the last message to the new connection is recorded.
    """

    is_strict = False

    def __init__(self, subscription: Subscription, layout: MessageLayout) -> None:
        """Only keep the settings: `items` connects."""
        self._to, self._layout = subscription, layout
        parts = urlsplit(subscription.url)
        self._shown = f"{parts.scheme}://{parts.hostname}"  # the rest may have credentials
        self._read: dict[str, int] = {}  #: symbol or ALL → newest number that was read
        self._heard: dict[str, int] = {}  #: symbol or ALL → when its newest row came, in epoch µs
        self._stored: dict[str, int] = {}  #: symbol or ALL → newest number that a cursor covers
        self._stored_us = 0  #: when the newest row that a cursor covers came, in epoch µs
        self._messages = self._repeats = 0
        self._has_found_rows = False

    async def items(self, cursor: str) -> AsyncIterator[list[Item]]:
        """See `Source.items`."""
        self._resume(cursor)
        failures = 0
        while True:
            try:
                async with connect(
                    self._to.url,
                    additional_headers=dict(self._to.headers),
                    max_size=MAX_MESSAGE_BYTES,
                    open_timeout=OPEN_S,
                    ping_interval=PING_S,
                    ping_timeout=PING_S,
                ) as socket:
                    for text in self._to.send:
                        await socket.send(text.replace(LAST_NUMBER, str(self._read.get(ALL, 0))))
                    logger.info("connected to %s", self._shown)
                    if missed := self._missed_between_connections():
                        yield missed
                    async for message in socket:
                        failures = 0
                        if items := self._items(message):
                            yield items
                why = "it closed the connection"
            except (OSError, WebSocketException, TimeoutError) as error:
                why = f"{type(error).__name__}: {error}".replace(self._to.url, self._shown)
            if failures % 10 == 0:  # every 5 minutes, once the retries are MAX_RETRY_S apart
                logger.warning("%s does not send: %s. Connecting again.", self._shown, why[:300])
            await asyncio.sleep(min(FIRST_RETRY_S * 2 ** min(failures, 8), MAX_RETRY_S))
            failures += 1

    def cursor_after(self, items: Sequence[Item]) -> str:
        """See `Source.cursor_after`."""
        for item in items:
            position: Position = item.position
            self._stored_us = max(self._stored_us, position.arrived_us)
            if position.number is not None:
                self._stored[position.key] = position.number
        if self._to.numbers_restart:  # numbers of an earlier connection say nothing any more
            self._stored = {key: n for key, n in self._stored.items() if key in self._read}
        return json.dumps({"heard_us": self._stored_us, "numbers": self._stored})

    def _resume(self, cursor: str) -> None:
        """Go on from the numbers of a cursor, if this kind of source wrote it."""
        try:
            found = json.loads(cursor or "{}")
            numbers, heard_us = dict(found["numbers"]), int(found["heard_us"])
        except (ValueError, KeyError, TypeError):  # the first start, or another source before
            return
        self._read, self._stored, self._stored_us = dict(numbers), numbers, heard_us
        self._heard = dict.fromkeys([ALL, *numbers], heard_us)

    def _missed_between_connections(self) -> list[Item]:
        """Return a gap from the newest row until now, as a list; [] if no gap is needed.

        No gap is needed before the first row, or if the source goes on counting: the numbers of the
        next rows then show which rows are missing.
        """
        if self._to.numbers_restart:
            self._read.clear()  # the old numbers would make new rows look like repeats
        newest_us = self._heard.get(ALL)
        goes_on_counting = self._layout.number and not self._to.numbers_restart
        if newest_us is None or goes_on_counting:
            return []
        return [self._gap(ALL, newest_us, _now_us(), "the connection was lost")]

    def _items(self, message: str | bytes) -> list[Item]:
        """Return the rows of a message without repeats, and gaps where numbers are missing."""
        self._messages += 1
        now_us = _now_us()
        origin = f"message {self._messages}"
        try:
            rows = read_message(self._layout, message, now_us)
        except NotUnderstood as error:
            # `read_rows` refuses it, so that the recorder logs the message as left out.
            return [Item(WrongMessage(str(error)), origin, Position(ALL, None, now_us))]
        self._has_found_rows = self._has_found_rows or bool(rows)
        if not self._has_found_rows and self._messages in (10, 1_000):
            logger.warning(
                "%s sent %d messages, and none has market data where --only, --rows and --column"
                " say. The newest: %.300s",
                self._shown, self._messages, escape_unprintable(str(message)),
            )  # fmt: skip
        items: list[Item] = []
        for row, number in rows:
            key = str(row.get("symbol", ALL))[:MAX_SYMBOL_CHARS] if self._to.per_symbol else ALL
            if number is not None and not self._take_number(key, number, now_us, items):
                continue
            self._heard[ALL] = now_us
            if number is not None:
                self._heard[key] = now_us
            items.append(Item(row, origin, Position(key, number, now_us)))
        return items

    def _take_number(self, key: str, number: int, now_us: int, items: list[Item]) -> bool:
        """Note the number of a row. Return whether the row is new: False for a repeat.

        Add a gap to `items` if numbers before this one are missing.
        """
        last = self._read.get(key)
        if last is not None and number <= last:
            self._repeats += 1
            if self._repeats in (1, 100) or self._repeats % 10_000 == 0:
                logger.warning(
                    "%s sent number %d%s after %d: left out as repeated (%d so far). If its numbers"
                    " begin anew with each connection, use --numbers-restart.",
                    self._shown, number, f" of {key}" if key else "", last, self._repeats,
                )  # fmt: skip
            return False
        if last is not None and number > last + 1:
            why = f"numbers {last + 1} to {number - 1} did not come"
            items.append(self._gap(key, self._heard.get(key, now_us), now_us, why))
        self._read[key] = number
        if len(self._read) > MAX_NUMBERED:
            raise SourceLost(
                f"{self._shown} numbers the rows of over {MAX_NUMBERED:,} symbols separately, and a"
                " cursor keeps no more numbers: subscribe to fewer symbols in one recorder."
            )
        return True

    def _gap(self, key: str, from_us: int, to_us: int, why: str) -> Item:
        """Log a gap, and return it as a row."""
        begin, end = time_text(from_us), time_text(max(from_us, to_us))
        logger.warning(
            "%s: %s%s between %s and %s; a gap is recorded",
            self._shown, f"{key}: " if key else "", why, begin, end,
        )  # fmt: skip
        row: dict[str, Any] = {"kind": "gap", "symbol": key, "from": begin, "to": end, "time": end}
        return Item(row, why, Position(key, None, to_us))


def _now_us() -> int:
    return time.time_ns() // 1_000
