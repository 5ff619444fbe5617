"""Websocket sources: repeats are left out and gaps reported, against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from portfolios.feeds.messages import MessageLayout
from portfolios.feeds.rows import WrongMessage, read_rows
from scheduling.recorded_feeds.sources import websocket
from scheduling.recorded_feeds.sources.base import Item, SourceLost
from scheduling.recorded_feeds.sources.websocket import Subscription, WebsocketSource


class Market:
    """A server that sends what a test tells it to."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._joined: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self._server: Server | None = None
        self._port = 0

    async def open(self) -> None:
        self._server = await serve(self._handle, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{self._port}/stream?token=hidden"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def joined(self) -> ServerConnection:
        async with asyncio.timeout(20):
            return await self._joined.get()

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.headers.append(dict(connection.request.headers))
        await self._joined.put(connection)
        async for message in connection:
            self.received.append(str(message))


@pytest.fixture
async def market(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Market]:
    monkeypatch.setattr(websocket, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(websocket, "MAX_RETRY_S", 0.05)
    one = Market()
    await one.open()
    yield one
    await one.close()


class Reading:
    """A source being read."""

    def __init__(self, source: WebsocketSource, cursor: str) -> None:
        self.source, self.cursor = source, ""
        self._items = source.items(cursor)
        self._read: list[Item] = []

    async def rows(self, count: int) -> list[Any]:
        """Return the next rows: the price, ("gap", symbol), or why a message has no row."""
        async with asyncio.timeout(20):
            while len(self._read) < count:
                self._read += await anext(self._items)
        found, self._read = self._read[:count], self._read[count:]
        self.cursor = self.source.cursor_after(found)
        return [_shown(item.row) for item in found]


def _shown(row: Any) -> Any:
    if isinstance(row, WrongMessage):
        _, (wrong,) = read_rows([row], {})
        return wrong.message
    return ("gap", row["symbol"]) if row.get("kind") == "gap" else row.get("price")


@asynccontextmanager
async def reading(
    url: str, cursor: str = "", *, number: str = "n", **options: Any
) -> AsyncIterator[Reading]:
    source = WebsocketSource(Subscription(url, **options), MessageLayout(number=number))
    one = Reading(source, cursor)
    try:
        yield one
    finally:
        await one._items.aclose()  # type: ignore[attr-defined]


def trade(number: int, symbol: str = "KO") -> str:
    at = f"2026-11-02T10:{number // 60:02}:{number % 60:02}Z"
    return json.dumps({"symbol": symbol, "time": at, "price": number, "quantity": 1, "n": number})


async def send_all(connection: ServerConnection, *messages: str) -> None:
    for message in messages:
        await connection.send(message)


async def rows_of(market: Market, one: Reading, count: int, *messages: str) -> list[Any]:
    """Return the rows that are read once the server has sent these messages to who joins."""
    coming = asyncio.create_task(one.rows(count))
    await send_all(await market.joined(), *messages)
    return await coming


async def test_the_source_subscribes_and_reads_only_rows(market: Market) -> None:
    send = ['{"subscribe": "trades", "after": {last_number}}']
    async with reading(market.url, send=send, headers={"X-Key": "k"}) as one:
        sent = '{"subscribed": true}', trade(1), trade(2)
        assert await rows_of(market, one, 2, *sent) == [1, 2]
    assert market.received == ['{"subscribe": "trades", "after": 0}']
    assert market.headers[0]["x-key"] == "k"


@pytest.mark.parametrize("first", [[], [trade(1)]], ids=["no row", "a row"])
async def test_a_source_of_which_no_message_has_a_row_is_logged_with_its_newest_message(
    market: Market, caplog: pytest.LogCaptureFixture, first: list[str]
) -> None:
    async with reading(market.url) as one:
        sent = [*first, *(f'{{"px": {n}}}' for n in range(10)), trade(2)]
        assert (await rows_of(market, one, len(first) + 1, *sent))[-1] == 2
    warning = "sent 10 messages, and none has market data where --only, --rows and --column say."
    assert (f'{warning} The newest: {{"px": 9}}' in caplog.text) == (not first)


async def test_repeated_rows_are_left_out_and_missing_numbers_are_a_gap(
    market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(market.url) as one:
        sent = [trade(number) for number in (1, 2, 2, 1, 5)]
        assert await rows_of(market, one, 4, *sent) == [1, 2, ("gap", ""), 5]
    assert "numbers 3 to 4 did not come" in caplog.text
    assert "sent number 2 after 2: left out as repeated" in caplog.text
    assert "hidden" not in caplog.text


async def test_row_numbers_of_each_symbol_are_counted_separately(market: Market) -> None:
    async with reading(market.url, per_symbol=True) as one:
        sent = trade(1), trade(7, "PEP"), trade(2), trade(9, "PEP")
        assert await rows_of(market, one, 5, *sent) == [1, 7, 2, ("gap", "PEP"), 9]


async def test_a_source_that_continues_by_number_leaves_no_gap_when_it_comes_back(
    market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(market.url, send=["{last_number}"]) as one:
        coming = asyncio.create_task(one.rows(4))
        await send_all(await market.joined(), trade(1), trade(2))
        await market.close()
        await market.open()
        await send_all(await market.joined(), trade(2), trade(3), trade(4))
        assert await coming == [1, 2, 3, 4]
    assert market.received == ["0", "2"]
    assert "does not send" in caplog.text


@pytest.mark.parametrize("numbers", [{"number": ""}, {"numbers_restart": True}])
async def test_a_lost_connection_is_a_gap_unless_numbers_continue_after_it(
    market: Market, numbers: dict[str, Any]
) -> None:
    async with reading(market.url, **numbers) as one:
        coming = asyncio.create_task(one.rows(3))
        connection = await market.joined()
        await send_all(connection, trade(1))
        await connection.close()
        await send_all(await market.joined(), trade(1))
        assert await coming == [1, ("gap", ""), 1]


async def test_source_that_numbers_more_symbols_than_a_cursor_keeps_is_refused(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "MAX_NUMBERED", 2)
    async with reading(market.url, per_symbol=True) as one:
        with pytest.raises(SourceLost, match="rows of over 2 symbols separately, and a cursor"):
            await rows_of(market, one, 3, *(trade(1, symbol) for symbol in ("KO", "PEP", "IBM")))


async def test_cursor_keeps_only_the_numbers_of_the_newest_connection_if_they_begin_anew(
    market: Market,
) -> None:
    async with reading(market.url, per_symbol=True, numbers_restart=True) as one:
        coming = asyncio.create_task(one.rows(3))
        connection = await market.joined()
        await send_all(connection, trade(1), trade(1, "PEP"))
        await connection.close()
        joined = await market.joined()
        assert await coming == [1, 1, ("gap", "")]
        coming = asyncio.create_task(one.rows(1))
        await send_all(joined, trade(3, "IBM"))
        assert await coming == [3]
    assert json.loads(one.cursor)["numbers"] == {"IBM": 3}


async def test_recorder_that_was_away_records_a_gap_for_missed_rows(market: Market) -> None:
    for options in ({}, {"number": ""}):
        async with reading(market.url, **options) as one:
            await rows_of(market, one, 2, trade(1), trade(2))
        async with reading(market.url, one.cursor, **options) as two:
            assert await rows_of(market, two, 2, trade(6)) == [("gap", ""), 6]


async def test_invalid_messages_are_passed_on_and_a_silent_server_is_reported(
    market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    await market.close()
    async with reading(market.url) as one:
        coming = asyncio.create_task(one.rows(2))
        async with asyncio.timeout(20):
            while "does not send" not in caplog.text:
                await asyncio.sleep(0.01)
        await market.open()
        await send_all(await market.joined(), "nonsense", '{"price": 1}')
        wrong, uncounted = await coming
    assert wrong.startswith("it is not JSON (Expecting value")
    assert uncounted.startswith("it has nothing at 'n', not a whole number")
    assert "hidden" not in caplog.text
