"""The one reader behind all open pages: what it sends, to whom, and when it rests."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import pytest

from chaos.harness.installation import SLOW_MACHINE_S
from scheduling.dashboard import publisher
from scheduling.dashboard.live_updates import View, view_of
from scheduling.dashboard.publisher import BoardReader
from scheduling.errors import SnapshotUnavailable
from tests.support import board_fixture as world

OPERATOR = View("board", "", True)
VIEWER = View("board", "", False)


class Source:
    """Stands in for the database: gives the board it was told to, and counts the looks."""

    def __init__(self) -> None:
        self.board: Any = world.quiet_fleet()
        self.looks = 0

    def __call__(self) -> Any:
        self.looks += 1
        if self.board is None:
            raise SnapshotUnavailable("away")
        return self.board


class Page:
    """Stands in for an open page: keeps what it was sent."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def __call__(self, message: str) -> None:
        self.messages.put_nowait(json.loads(message))

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.messages.get(), SLOW_MACHINE_S)


@pytest.fixture
def source(monkeypatch):
    """A source in place of the database, and no channel layer: hints are no truth."""
    made = Source()
    monkeypatch.setattr(publisher, "read_fleet_view", made)
    monkeypatch.setattr(publisher, "get_channel_layer", lambda: None)
    monkeypatch.setattr(publisher, "PERIOD_S", 0.05)
    monkeypatch.setattr(publisher, "LEAST_PERIOD_S", 0.01)
    return made


@pytest.fixture
async def reader(source):
    made = BoardReader()
    yield made
    for page in list(made._subscribers):
        made.leave(page)
    await asyncio.sleep(0.1)


async def test_the_first_message_holds_everything_and_the_next_only_what_changed(reader, source):
    page = Page()
    reader.join(page, OPERATOR)
    first = await page.next()
    assert {"part-fleet-summary", "part-handoff-sidebar", "part-total-equity", "col-node-1"} <= set(
        first["parts"]
    )
    assert first["columns"] == ["col-node-1", "col-node-2", "col-node-3"]
    changed = source.board.nodes[:1] + [
        dataclasses.replace(node, lease_left_s=12.0) if node.name == "node-2" else node
        for node in source.board.nodes[1:]
    ]
    source.board = dataclasses.replace(source.board, nodes=changed)
    while not (later := await page.next())["parts"]:
        pass
    assert set(later["parts"]) == {"col-node-2"}


async def test_a_page_hears_every_second_although_nothing_changed(reader):
    page = Page()
    reader.join(page, OPERATOR)
    await page.next()
    still = await page.next()
    assert still["parts"] == {}
    assert still["at"] == "14:05:12"


async def test_many_pages_share_one_look(reader, source):
    many = [Page() for _ in range(20)]
    for page in many:
        reader.join(page, OPERATOR)
    for page in many:
        assert (await page.next())["parts"]
    assert source.looks <= 3


async def test_a_viewer_is_sent_no_acts(reader):
    viewer, operator = Page(), Page()
    reader.join(viewer, VIEWER)
    reader.join(operator, OPERATOR)
    assert "data-dialog" not in json.dumps((await viewer.next())["parts"])
    assert "data-dialog" in json.dumps((await operator.next())["parts"])


async def test_the_reader_rests_when_the_last_page_is_closed(reader, source):
    page, other = Page(), Page()
    reader.join(page, OPERATOR)
    reader.join(other, OPERATOR)
    await page.next()
    reader.leave(page)
    await other.next()
    reader.leave(other)
    await asyncio.sleep(0.1)
    looks = source.looks
    await asyncio.sleep(0.2)
    assert source.looks == looks


async def test_a_page_that_comes_later_gets_everything_at_once(reader):
    early, late = Page(), Page()
    reader.join(early, OPERATOR)
    await early.next()
    reader.join(late, OPERATOR)
    assert "col-node-1" in (await late.next())["parts"]


async def test_not_knowing_is_said_and_is_no_empty_board(reader, source, caplog):
    page = Page()
    reader.join(page, OPERATOR)
    await page.next()
    source.board = None
    while (said := await page.next())["type"] == "parts":
        pass
    assert said == {"type": "unreadable", "sentence": "The database does not answer."}
    assert "away" in caplog.messages  # an outage is a sentence in the log as well,
    assert all(record.exc_info is None for record in caplog.records)  # not a stack
    source.board = world.quiet_fleet()
    while (said := await page.next())["type"] != "parts":
        pass


async def test_what_happened_is_said_for_the_ear(reader, source):
    page = Page()
    reader.join(page, OPERATOR)
    await page.next()
    lost = [
        dataclasses.replace(n, status="lost") if n.name == "node-3" else n
        for n in source.board.nodes
    ]
    source.board = dataclasses.replace(source.board, nodes=lost)
    while not (later := await page.next()).get("say"):
        pass
    assert later["say"] == ["node-3 is lost"]


async def test_a_hint_makes_it_look_at_once(reader, source, monkeypatch):
    class Layer:
        hints: asyncio.Queue[dict[str, str]] = asyncio.Queue()

        async def new_channel(self) -> str:
            return "here"

        async def group_add(self, group: str, channel: str) -> None:
            assert group == "board"

        async def group_discard(self, group: str, channel: str) -> None: ...

        async def receive(self, channel: str) -> dict[str, str]:
            return await self.hints.get()

    layer = Layer()
    monkeypatch.setattr(publisher, "get_channel_layer", lambda: layer)
    monkeypatch.setattr(publisher, "PERIOD_S", 60.0)
    page = Page()
    reader.join(page, OPERATOR)
    await page.next()
    await asyncio.sleep(0.05)
    looks = source.looks
    layer.hints.put_nowait({"type": "board"})
    await page.next()
    assert source.looks == looks + 1


@pytest.mark.parametrize(
    ("asked", "view"),
    [
        ("board", View("board", "", True)),
        ("portfolio:aapl-sma", View("portfolio", "aapl-sma", True)),
        ("page", View("page", "", True)),
        ("portfolio:", View("page", "", True)),
        ("anything else", View("page", "", True)),
    ],
)
def test_a_page_asks_for_what_it_shows(asked, view):
    assert view_of(asked, True) == view
