"""Limits of the web process against slow, endless and too many connections, on real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn

from chaos.harness.installation import SLOW_MACHINE_S, eventually
from ginkgo_site import http_limits
from ginkgo_site.http_limits import SENDER_KNOWN, GuardedHttp, most_connections
from scheduling.gateway import app

LONG_S = SLOW_MACHINE_S


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer "hello" to a request, 20 MB to /long, 20 MB of the gateway to /large, and nothing to
    /held before its body. Who asks for /known is known."""
    if scope["path"] == "/large":
        await app._send_large(scope, send, b"x" * 20_000_000, 0.1)
        return
    if scope["path"] == "/known":
        scope[SENDER_KNOWN]()
    if scope["path"] in ("/held", "/known"):
        while (await receive()).get("more_body"):
            pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    body = b"x" * 20_000_000 if scope["path"] == "/long" else b"hello"
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served() -> Iterator[int]:
    """Serve `hello` in a thread; yield the port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    config = uvicorn.Config(hello, http=GuardedHttp, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True
    )
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(LONG_S)
        listener.close()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LONG_S)


def all_of(ours: socket.socket) -> bytes:
    """Return what comes until the server closes."""
    said = b""
    try:
        while part := ours.recv(65536):
            said += part
    except ConnectionResetError:
        pass
    return said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HEADERS_WITHIN_S", b""),
        ("HEADERS_WITHIN_S", b"\r\n\r\n"),
        ("HEADERS_WITHIN_S", b"GET / HTTP/1.1\r\nhost: x\r\n"),
        ("HEADERS_WITHIN_S", b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT"),
        ("REQUEST_WITHIN_S", b"POST /held HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nno"),
        ("READ_WITHIN_S", b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n"),
    ],
    ids=["silence", "empty lines", "headers", "second request", "body", "answer"],
)
def test_connection_whose_client_stops_sending_or_reading_is_closed(
    monkeypatch: pytest.MonkeyPatch, name: str, words: bytes
) -> None:
    monkeypatch.setattr(http_limits, name, 0.2)
    with served() as port, connected(port) as ours:
        ours.sendall(words)
        if name == "READ_WITHIN_S":
            assert loss(monkeypatch).wait(LONG_S)  # and not when we read at last
        said = all_of(ours)
    assert len(said) < 20_000_000
    whole = (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" in words) + (name == "READ_WITHIN_S")
    assert said.count(b"HTTP/1.1 200") == whole


def loss(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what is set once the server has lost a connection."""
    gone, lose = threading.Event(), GuardedHttp.connection_lost
    monkeypatch.setattr(
        GuardedHttp, "connection_lost", lambda self, error: (lose(self, error), gone.set())
    )
    return gone


def test_unread_answer_of_the_gateway_is_ended_and_the_server_logs_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", app.logger.name)
    gone = loss(monkeypatch)
    of_server = logging.getLogger("uvicorn.error")
    with served() as port, connected(port) as ours:
        of_server.setLevel("ERROR")
        monkeypatch.setattr(of_server, "handlers", [caplog.handler])
        ours.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        assert gone.wait(LONG_S)
    assert caplog.messages == ["the answer to /large was not read within 0.1 s"]


def test_endless_headers_end_their_connection() -> None:
    with served() as port, connected(port) as ours:
        ours.sendall(b"GET / HTTP/1.1\r\n")
        try:
            for number in range(200):
                ours.sendall(b"x-%d: " % number + b"y" * 1_000 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        said = all_of(ours)
    assert said == b"" or said.startswith(b"HTTP/1.1 400")


def test_size_limit_holds_for_each_request_of_a_connection_and_not_for_their_sum() -> None:
    with served() as port, connected(port) as ours:
        for _ in range(20):
            ours.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 8_000 + b"\r\n\r\n")
            said = b""
            while b"hello" not in said and b"0\r\n\r\n" not in said:
                said += ours.recv(65536)
        ours.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"hello" in all_of(ours)


def test_idle_connections_are_closed_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedHttp, "_most_connections", 5)
    monkeypatch.setattr(GuardedHttp, "_without_request", {})
    with served() as port:
        idle = [connected(port) for _ in range(20)]
        with connected(port) as ours:
            ours.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b"hello" in all_of(ours)
        eventually(lambda: sum(is_closed(each) for each in idle) >= 15, what="their end")
        for each in idle:
            each.close()


def test_address_with_too_many_incomplete_bodies_loses_its_oldest_connections_unless_authenticated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_limits, "MAX_HALF_BODIES", 5)
    monkeypatch.setattr(GuardedHttp, "_half_bodies", {})
    with served() as port, ExitStack() as stack:

        def begun(path: str) -> socket.socket:
            """Send half of a body; return when the application waits for the rest of it."""
            ours = stack.enter_context(connected(port))
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
            ours.sendall(f"{head}content-length: 2\r\n\r\n".encode())
            assert ours.recv(65536).startswith(b"HTTP/1.1 100")
            ours.sendall(b"a")
            return ours

        known = [begun("/known") for _ in range(8)]
        half = [begun("/held") for _ in range(5)]
        more = [begun("/held") for _ in range(3)]
        for oldest in half[:3]:
            assert all_of(oldest) == b""  # closed
        for ours in (*known, *half[3:], *more):
            ours.sendall(b"b")
            assert ours.recv(65536).startswith(b"HTTP/1.1 200")
        assert GuardedHttp._half_bodies == {}


def is_closed(ours: socket.socket) -> bool:
    ours.setblocking(False)
    try:
        return ours.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    ("limit", "most"), [(1_024, 874), (64, 32), (1_000_000, 10_000), (-1, 10_000)]
)
def test_limit_of_connections_leaves_file_descriptors_for_the_database(
    monkeypatch: pytest.MonkeyPatch, limit: int, most: int
) -> None:
    monkeypatch.setattr(http_limits.resource, "getrlimit", lambda _: (limit, limit))
    assert most_connections() == most
