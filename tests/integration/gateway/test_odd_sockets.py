"""Malformed websocket requests are closed with a code, without an exception."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async

from chaos.harness.installation import SLOW_MACHINE_S
from ginkgo_site.asgi import application
from scheduling.gateway import push_socket
from tests.support.gateway_requests import admitted_node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("open_gateway")]


make_admitted_node = database_sync_to_async(admitted_node)


def a_socket(path: str, query: bytes = b"", **headers: bytes) -> ApplicationCommunicator:
    given = [(name.encode(), value) for name, value in headers.items()]
    scope = {
        "type": "websocket", "path": path, "query_string": query, "headers": given,
        "subprotocols": [],
    }  # fmt: skip
    return ApplicationCommunicator(application, scope)


def agent_socket() -> ApplicationCommunicator:
    return a_socket("/ws/agent/", authorization=b"Bearer token of node-1")


async def opened_socket() -> ApplicationCommunicator:
    socket = agent_socket()
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output(SLOW_MACHINE_S))["type"] == "websocket.accept"
    return socket


async def closed_with(socket: ApplicationCommunicator) -> int:
    """Connect and return the close code, accepted before or not."""
    await socket.send_input({"type": "websocket.connect"})
    answer: dict[str, Any] = await socket.receive_output(SLOW_MACHINE_S)
    if answer["type"] == "websocket.accept":
        answer = await socket.receive_output(SLOW_MACHINE_S)
    assert answer["type"] == "websocket.close", answer
    code: int = answer.get("code", 1000)
    await socket.send_input({"type": "websocket.disconnect", "code": code})
    await socket.wait(SLOW_MACHINE_S)
    return code


async def test_socket_to_an_unknown_address_is_closed() -> None:
    for path in ("/", "/ws/", "/ws/agent", "/ws/agent/x/", "/ws/\x00", "/ws/board/x"):
        assert await closed_with(a_socket(path)) == 4404, path


async def test_board_socket_with_malformed_headers_is_closed() -> None:
    given: list[dict[str, bytes]] = [
        {},
        {"origin": b"http://["},
        {"origin": b"\xff\xfe"},
        {"origin": b"http://localhost:99999999/"},
        {"cookie": b"sessionid=\xff\xfe; ;;=;sessionid"},
        {"cookie": b"sessionid=" + b"x" * 5_000},
        {"origin": b"http://localhost", "host": b"localhost", "cookie": b"sessionid=" + b"'" * 40},
    ]
    for headers in given:
        socket = a_socket("/ws/board/", b"view=%ff&\xff=\xfe", **headers)
        assert await closed_with(socket) >= 1000, headers


async def test_socket_without_a_valid_token_is_closed_before_it_opens() -> None:
    odd = (b"", b"Bearer", b"Bearer \xff\xff", b"\x00", b"Bearer " + b"x" * 60_000, b"Bearer a")
    given: list[dict[str, bytes]] = [{}, *({"authorization": token} for token in odd)]
    for headers in given:
        socket = a_socket("/ws/agent/", **headers)
        await socket.send_input({"type": "websocket.connect"})
        answer = await socket.receive_output(SLOW_MACHINE_S)
        assert (answer["type"], answer["code"]) == ("websocket.close", push_socket.UNAUTHENTICATED)


MALFORMED: tuple[dict[str, Any], ...] = (
    {"bytes": b""},
    {"bytes": b"\xc1"},
    {"bytes": b"\x91" * 60_000},
    {"bytes": b"\x82\xa4type\xa5hello\xabincarnation\xa2\xff\xff"},
    {"bytes": msgspec.msgpack.encode({"type": "hello", "incarnation": "x"})},
    {"bytes": msgspec.msgpack.encode({"type": "hello", "incarnation": 7})},
    {"bytes": msgspec.msgpack.encode({"type": "hello", "incarnation": "\0"})},
    {"text": "hello"},
)


async def test_malformed_hello_closes_the_socket() -> None:
    await make_admitted_node("node-1")
    for words in MALFORMED:
        socket = await opened_socket()
        for _ in range(2):  # in one segment
            await socket.send_input({"type": "websocket.receive", **words})
        answer = await socket.receive_output(SLOW_MACHINE_S)
        closed = ("websocket.close", push_socket.NOT_HELLO)
        assert (answer["type"], answer["code"]) == closed, words
        await socket.send_input({"type": "websocket.disconnect", "code": push_socket.NOT_HELLO})
        await socket.wait(SLOW_MACHINE_S)
        assert socket.output_queue.empty()
        assert not push_socket.OPEN_SOCKETS


async def test_daemon_that_leaves_before_its_socket_opens_keeps_no_place() -> None:
    await make_admitted_node("node-1")
    socket = agent_socket()

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        raise BrokenPipeError(message["type"])

    with pytest.raises(BrokenPipeError, match=r"websocket\.accept"):
        await application(socket.scope, receive, send)
    assert not push_socket.OPEN_SOCKETS


async def test_socket_without_hello_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_socket, "HELLO_TIMEOUT_S", 0.05)
    await make_admitted_node("node-1")
    assert await closed_with(agent_socket()) == push_socket.NOT_HELLO


async def test_node_with_too_many_sockets_gets_no_further_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(push_socket.OPEN_SOCKETS, 0, 0)
    await make_admitted_node("node-1")
    opened = [await opened_socket() for _ in range(push_socket.MAX_SOCKETS)]
    assert await closed_with(agent_socket()) == push_socket.TRY_AGAIN
    for socket in opened:
        await socket.send_input({"type": "websocket.disconnect", "code": 1000})
        await socket.wait(SLOW_MACHINE_S)
    assert sum(push_socket.OPEN_SOCKETS.values()) == 0
