"""BoardPublisher: what it sends, to which pages, and when it stops."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from typing import Any

import pytest
from django.db import OperationalError

from chaos.harness.installation import SLOW_MACHINE_S
from scheduling.dashboard import publisher
from scheduling.dashboard.figures import CARD_FIELDS
from scheduling.dashboard.live_views import LiveView, parse_view, render_views
from scheduling.dashboard.publisher import BoardPublisher
from scheduling.errors import SnapshotUnavailable
from scheduling.models import LogLine
from tests.support import board_fixture

OPERATOR = LiveView("board", "", True)
VIEWER = LiveView("board", "", False)


class Source:
    """Fake of the database: returns or raises what is set, and counts reads."""

    def __init__(self) -> None:
        self.board: Any = board_fixture.quiet_fleet()
        self.reads = 0

    def __call__(self) -> Any:
        self.reads += 1
        if isinstance(self.board, Exception):
            raise self.board
        return self.board


class Page:
    """Fake of an open page: queues what it was sent."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def __call__(self, message: str) -> None:
        self.messages.put_nowait(json.loads(message))

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.messages.get(), SLOW_MACHINE_S)


async def opened(made: BoardPublisher) -> Page:
    """Return an operator's page that has had its first message."""
    page = Page()
    made.subscribe(page, OPERATOR)
    await page.next()
    return page


@pytest.fixture
def source(monkeypatch):
    """A source in place of the database, and no channel layer."""
    made = Source()
    monkeypatch.setattr(publisher, "read_fleet_view", made)
    monkeypatch.setattr(publisher, "get_channel_layer", lambda: None)
    monkeypatch.setattr(publisher, "PERIOD_S", 0.05)
    monkeypatch.setattr(publisher, "MIN_PERIOD_S", 0.01)
    return made


@pytest.fixture
async def board_publisher(source):
    made = BoardPublisher()
    yield made
    for page in list(made._subscribers):
        made.unsubscribe(page)
    await asyncio.sleep(0.1)


def test_open_board_of_a_fresh_installation_follows_its_first_steps():
    def steps(*given: Any) -> str:
        views = render_views(board_fixture.fleet_view(*given), [OPERATOR])
        return views[OPERATOR].parts["part-first-steps"]

    node = board_fixture.node("node-1")
    assert "No node has registered yet." in steps([], [])
    assert "No portfolio yet." in steps([node], [])
    assert "<h2>" not in steps([node], [board_fixture.portfolio("ibm-sma", "node-1")])


async def test_first_message_has_all_parts_and_later_ones_only_changes(board_publisher, source):
    page = Page()
    board_publisher.subscribe(page, OPERATOR)
    first = await page.next()
    wanted = {"part-fleet-summary", "part-handoff-sidebar", "part-total-equity"}
    assert wanted <= set(first["parts"])
    assert first["figures"]["nodes"]["names"] == ["node-1", "node-2", "node-3"]
    assert set(first["figures"]["portfolios"]["columns"]) == set(CARD_FIELDS)
    one, two, three = source.board.nodes
    changed = [one, dataclasses.replace(two, cordoned=True), three]
    source.board = dataclasses.replace(source.board, nodes=changed)
    while "nodes" not in (later := await page.next())["figures"]:
        pass
    assert later["parts"] == {}
    assert later["figures"] == {
        "now": board_fixture.NOW.timestamp(),
        "nodes": {"columns": {"cordoned": {"at": [1], "to": [True]}}},
    }


async def test_page_gets_a_message_each_period_even_if_nothing_changed(board_publisher):
    page = await opened(board_publisher)
    still = await page.next()
    assert still["parts"] == {}
    assert set(still["figures"]) == {"now"}
    assert still["at"] == "14:05:12 UTC"


async def test_many_pages_share_one_read(board_publisher, source, monkeypatch):
    monkeypatch.setattr(publisher, "PERIOD_S", 60.0)
    many = [Page() for _ in range(20)]
    for page in many:
        board_publisher.subscribe(page, OPERATOR)
    for page in many:
        assert (await page.next())["parts"]
    assert source.reads <= 3


async def test_viewer_is_sent_no_actions(board_publisher):
    viewer, operator = Page(), Page()
    board_publisher.subscribe(viewer, VIEWER)
    board_publisher.subscribe(operator, OPERATOR)
    of_viewer, of_operator = await viewer.next(), await operator.next()
    assert "data-dialog" not in json.dumps(of_viewer)
    assert "data-dialog" in json.dumps(of_operator["parts"])
    assert of_viewer["figures"] == of_operator["figures"]


async def test_publisher_forgets_a_view_whose_last_page_was_closed_during_a_read(
    board_publisher, source, monkeypatch
):
    viewer, operator = Page(), Page()
    board_publisher.subscribe(operator, OPERATOR)
    board_publisher.subscribe(viewer, VIEWER)
    await viewer.next()
    loop, closed = asyncio.get_running_loop(), threading.Event()

    def close():
        board_publisher.unsubscribe(viewer)
        closed.set()

    def read():
        if not closed.is_set():
            loop.call_soon_threadsafe(close)
            closed.wait(SLOW_MACHINE_S)
        return source()

    monkeypatch.setattr(publisher, "read_fleet_view", read)
    while not closed.is_set():
        await operator.next()
    await operator.next()
    assert list(board_publisher._sent) == [OPERATOR]


async def test_publisher_stops_when_the_last_page_is_closed(board_publisher, source):
    page, other = Page(), Page()
    board_publisher.subscribe(page, OPERATOR)
    board_publisher.subscribe(other, OPERATOR)
    await page.next()
    board_publisher.unsubscribe(page)
    await other.next()
    board_publisher.unsubscribe(other)
    await asyncio.sleep(0.1)
    reads = source.reads
    await asyncio.sleep(0.2)
    assert source.reads == reads


async def test_page_opened_later_gets_all_parts_with_its_first_message(board_publisher):
    await opened(board_publisher)
    late = Page()
    board_publisher.subscribe(late, OPERATOR)
    assert (await late.next())["figures"]["nodes"]["names"][0] == "node-1"


AWAY = "The database does not respond."
INTERNAL = "Internal error: the log of the web process has the cause."


@pytest.mark.parametrize(
    ("error", "said", "logged"),
    [
        (SnapshotUnavailable("away"), AWAY, "the board could not be read: away"),
        (OperationalError("cut off"), AWAY, "the board could not be read: cut off"),
        (KeyError("phase"), INTERNAL, "the board could not be read"),
    ],
    ids=("snapshot", "later-statement", "defect"),
)
async def test_failed_read_is_reported_with_its_cause_and_not_shown_as_an_empty_board(
    board_publisher, source, caplog, error, said, logged
):
    page = await opened(board_publisher)
    source.board = error
    while (message := await page.next())["type"] == "parts":
        pass
    assert message == {"type": "unreadable", "sentence": said}
    assert logged in caplog.messages
    # An outage is logged as a sentence, a defect with its traceback.
    assert {record.exc_info is not None for record in caplog.records} == {said == INTERNAL}
    source.board = board_fixture.quiet_fleet()
    while (message := await page.next())["type"] != "parts":
        pass


async def test_changes_are_announced_to_screen_readers(board_publisher, source):
    page = await opened(board_publisher)
    *others, last = source.board.nodes
    lost = dataclasses.replace(last, status="lost")
    source.board = dataclasses.replace(source.board, nodes=[*others, lost])
    while not (later := await page.next()).get("announce"):
        pass
    assert later["announce"] == ["node-3 is lost"]


async def test_hint_makes_the_publisher_read_the_board_at_once(
    board_publisher, source, monkeypatch
):
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
    page = await opened(board_publisher)
    await asyncio.sleep(0.05)
    reads = source.reads
    layer.hints.put_nowait({"type": "board"})
    await page.next()
    assert source.reads == reads + 1


VIEWS = (
    ("board", LiveView("board", "", True)),
    ("portfolio:aapl-sma", LiveView("portfolio", "aapl-sma", True)),
    ("page", LiveView("page", "", True)),
    ("portfolio:", LiveView("page", "", True)),
    ("anything else", LiveView("page", "", True)),
)


def test_parse_view_returns_the_view_of_each_requested_page():
    for requested, view in VIEWS:
        assert parse_view(requested, True) == view


@pytest.mark.django_db
def test_portfolio_view_has_new_lines_of_its_log_escaped():
    fleet = board_fixture.busy_fleet()
    (shown,) = [p for p in fleet.portfolios if p.name == "aapl-sma"]
    view = LiveView("portfolio", "aapl-sma", False)
    assert "have printed nothing yet" in render_views(fleet, [view])[view].parts["part-log"]
    given = {"portfolio_id": shown.id, "at": board_fixture.NOW, "node": "node-1", "revision": 12}
    for no, (text, lost) in enumerate((("<b>one</b>", 0), ("", 7), ("two", 0)), 1):
        LogLine.objects.create(no=no, text=text, lost=lost, end_byte=no, **given)
    part = render_views(fleet, [view])[view].parts["part-log"]
    shown_lines = [part.index(text) for text in ("&lt;b&gt;one", "(7 lines were lost here)", "two")]
    assert shown_lines == sorted(shown_lines)  # newest last
    other = LiveView("portfolio", "beta", False)
    assert "part-log" not in render_views(fleet, [other])[other].parts
