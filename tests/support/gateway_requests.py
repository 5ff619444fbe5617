"""Requests to a gateway from the view of a daemon: raw ASGI, a real pool, real rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import msgspec

from scheduling.gateway.app import gateway
from scheduling.gateway.pool import close_pools, open_pools
from scheduling.models import NodeToken
from scheduling.models.tokens import hash_token
from scheduling.wire.messages import Commit, CommitRequest, Heartbeat, Register, encode
from tests.support import factories
from tests.support.factories import FakeNode

Answer = tuple[int, Any]


def admitted_node(name: str, **given: Any) -> FakeNode:
    """Return a node with the token "token of NAME"; `given` are further fields of the token."""
    daemon = factories.make_node(name)
    NodeToken.objects.create(node=daemon.row, sha256=hash_token(f"token of {name}"), **given)
    return daemon


def commit_request(daemon: FakeNode, *commits: Commit) -> CommitRequest:
    return CommitRequest(incarnation=str(daemon.incarnation), commits=list(commits))


async def ask(
    path: str,
    body: bytes | list[bytes],
    token: str | None = "token of node-1",
    method: str = "POST",
) -> Answer:
    """Send one request, its body in these parts. Return (status, decoded body)."""
    parts = body if isinstance(body, list) else [body]
    events = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "http", "method": method, "path": f"/api/agent/{path}", "headers": headers}
    await gateway(scope, receive, send)
    return sent[0]["status"], msgspec.msgpack.decode(sent[1]["body"])


def serve(scenario: Callable[[], Awaitable[Any]]) -> Any:
    """Run a scenario with the gateway's pools open, and return what it returns."""

    async def whole() -> Any:
        await open_pools()
        try:
            return await scenario()
        finally:
            await close_pools()

    return asyncio.run(whole())


def post(path: str, message: Any, **how: Any) -> Answer:
    body = encode(message) if isinstance(message, msgspec.Struct) else message
    answer: Answer = serve(lambda: ask(path, body, **how))
    return answer


def post_all(path: str, *bodies: bytes) -> list[Answer]:
    """Send several requests, one after the other, beside one gateway."""

    async def each() -> list[Answer]:
        return [await ask(path, body) for body in bodies]

    answers: list[Answer] = serve(each)
    return answers


def commit(daemon: FakeNode, *commits: Commit) -> list[tuple[str, str]]:
    """Commit as `daemon`; return (answer, detail) of each."""
    status, answer = post(
        "commit/", commit_request(daemon, *commits), token=f"token of {daemon.name}"
    )
    assert status == 200, answer
    return [(r["answer"], r.get("detail", "")) for r in answer["results"]]


def beat(daemon: FakeNode, have_version: int = 0, **said: Any) -> Heartbeat:
    return Heartbeat(incarnation=str(daemon.incarnation), have_version=have_version, **said)


def register_message(**given: Any) -> Register:
    return msgspec.structs.replace(factories.register_message(uuid4()), **given)
