"""Websocket `ws/board/`: access control and content."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.auth import AuthMiddlewareStack
from channels.db import database_sync_to_async
from channels.routing import URLRouter
from django.contrib.auth.models import Group, User
from django.db import OperationalError, connections
from django.test import Client
from django.urls import path

from chaos.harness.installation import SLOW_MACHINE_S
from scheduling.dashboard import consumer, publisher
from tests.support import board_fixture

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
async def fleet(monkeypatch):
    """All sockets get the quiet fleet, without hints."""
    monkeypatch.setattr(publisher, "read_fleet_view", board_fixture.quiet_fleet)
    monkeypatch.setattr(publisher, "get_channel_layer", lambda: None)
    yield
    await database_sync_to_async(connections.close_all)()


def cookie_of(name: str, group: str | None) -> bytes:
    user = User.objects.create_user(name)
    if group:
        user.groups.add(Group.objects.get_or_create(name=group)[0])
    client = Client()
    client.force_login(user)
    return f"sessionid={client.cookies['sessionid'].value}".encode()


class Socket(ApplicationCommunicator):
    """The browser's side of the websocket."""

    def __init__(self, cookie: bytes | None, view: str = "board") -> None:
        board = URLRouter([path("ws/board/", consumer.BoardConsumer.as_asgi())])
        headers = [(b"cookie", cookie)] if cookie else []
        scope = {
            "type": "websocket", "path": "/ws/board/", "headers": headers,
            "query_string": f"view={view}".encode(), "subprotocols": [],
        }  # fmt: skip
        super().__init__(AuthMiddlewareStack(board), scope)

    async def open(self) -> None:
        await self.send_input({"type": "websocket.connect"})
        assert (await self.receive_output(SLOW_MACHINE_S))["type"] == "websocket.accept"

    async def message(self) -> dict[str, Any]:
        message = await self.receive_output(SLOW_MACHINE_S)
        assert message["type"] == "websocket.send", message
        return json.loads(message["text"])

    async def leave(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1001})
        await self.wait(SLOW_MACHINE_S)


async def opened_by(name: str, group: str, view: str = "board") -> Socket:
    """Return an open socket of a new user of this group."""
    socket = Socket(await database_sync_to_async(cookie_of)(name, group), view)
    await socket.open()
    return socket


@pytest.mark.parametrize("group", ["signed out", None])
async def test_user_without_a_role_is_closed_with_4401(group):
    opened = Socket(None if group else await database_sync_to_async(cookie_of)("nob", None))
    await opened.open()
    message = await opened.receive_output(SLOW_MACHINE_S)
    assert (message["type"], message["code"]) == ("websocket.close", consumer.NOT_ALLOWED)
    await opened.leave()


async def test_viewer_is_sent_the_board_without_actions():
    opened = await opened_by("vic", "viewer")
    message = await opened.message()
    assert message["figures"]["nodes"]["names"] == ["node-1", "node-2", "node-3"]
    assert "data-dialog" not in json.dumps(message)
    await opened.leave()


async def test_portfolio_page_is_sent_its_head_and_positions():
    opened = await opened_by("mira", "operator", "portfolio:trader-1")
    message = await opened.message()
    every_page = ("total-equity", "halt-banner", "banners", "alert-bell")
    names = (*every_page, "head", "log", "metrics", "positions")
    assert set(message["parts"]) == {f"part-{name}" for name in names}
    assert message["figures"] is None
    assert "Migrate…" in message["parts"]["part-head"]
    await opened.leave()


@pytest.mark.parametrize(
    ("limit", "language", "said"),
    [
        ("MAX_OF_USER", "en", "You have 2 live pages open. Close one of them."),
        ("MAX_IN_ALL", "en", "2 live pages are open in this web process. Try again later."),
        ("MAX_OF_USER", "zh-hans", "您已打开 2 个实时页面。请关闭其中一个。"),
    ],
)
async def test_live_pages_are_limited(monkeypatch, limit, language, said):
    monkeypatch.setattr(consumer, limit, 2)
    cookies = [await database_sync_to_async(cookie_of)(name, "viewer") for name in ("vic", "val")]
    of_another = cookies[limit == "MAX_IN_ALL"]
    opened = [Socket(cookies[0], f"board&language={language}") for _ in range(2)]
    for socket in opened:
        await socket.open()
    one_more = Socket(of_another, f"board&language={language}")
    await one_more.open()
    message = await one_more.receive_output(SLOW_MACHINE_S)
    assert message == {"type": "websocket.close", "code": consumer.TOO_MANY, "reason": said}
    assert len(said.encode()) <= 123  # of a close frame
    await one_more.leave()
    await opened.pop().leave()
    instead = Socket(of_another)
    await instead.open()
    assert (await instead.message())["figures"]
    for socket in (*opened, instead):
        await socket.leave()
    assert not consumer.OPEN_PAGES


async def test_socket_of_a_page_that_sends_a_message_is_closed():
    opened = await opened_by("vic", "viewer")
    await opened.message()
    for _ in range(2):  # in one segment
        await opened.send_input({"type": "websocket.receive", "text": "x" * 60_000})
    while (message := await opened.receive_output(SLOW_MACHINE_S))["type"] == "websocket.send":
        pass
    assert (message["type"], message["code"]) == ("websocket.close", consumer.NO_MESSAGES)
    await opened.leave()
    assert opened.output_queue.empty()
    assert not consumer.OPEN_PAGES


async def test_socket_closes_after_its_user_is_deactivated_even_if_a_check_found_no_database(
    monkeypatch,
):
    monkeypatch.setattr(consumer, "ROLE_CHECK_PERIOD_S", 0.1)
    opened = await opened_by("mira", "operator")
    honest, asked = consumer.role_of, asyncio.Event()

    def away_once(user):
        if asked.is_set():
            return honest(user)
        asked.set()
        raise OperationalError("the primary is changing")

    monkeypatch.setattr(consumer, "role_of", away_once)
    await asyncio.wait_for(asked.wait(), SLOW_MACHINE_S)
    await database_sync_to_async(User.objects.update)(is_active=False)
    while (message := await opened.receive_output(SLOW_MACHINE_S))["type"] == "websocket.send":
        pass
    assert (message["type"], message["code"]) == ("websocket.close", consumer.NOT_ALLOWED)
    await opened.leave()
