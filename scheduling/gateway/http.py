"""The little of HTTP that the node protocol needs: a body with a limit, an answer, a problem."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec
from django.conf import settings

from scheduling.wire.messages import Problem, encode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class RequestRejected(Exception):
    """Answer with this status and problem instead."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(code=code, message=message)


class ClientGone(Exception):
    """The daemon hung up before its request was whole."""


def refuse_plain_http(scope: Scope, headers: Mapping[bytes, bytes]) -> None:
    """Decline a request that came without TLS where GINKGO_HTTPS asks for it.

    A daemon of this machine may speak to us directly: what never leaves the machine needs no TLS.
    """
    if not settings.GINKGO.https or headers.get(b"x-forwarded-proto") == b"https":
        return
    peer = (scope.get("client") or ("",))[0]
    if peer in LOOPBACK and b"x-forwarded-for" not in headers:
        return
    raise RequestRejected(
        403,
        "forbidden",
        "This request did not come through TLS, so its token was readable on the way: use the "
        "https:// address of the server, and make a new token with create_node_token.",
    )


LOOPBACK = ("127.0.0.1", "::1", "")


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the whole body, or decline it as soon as it grows past `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise RequestRejected(
                413, "payload_too_large", f"The body is over {limit:,} bytes; send less at a time."
            )
        if not message.get("more_body"):
            return b"".join([*parts, part]) if parts else part
        parts.append(part)


async def respond(send: Send, body: msgspec.Struct, status: int = 200) -> None:
    """Send one MessagePack answer."""
    payload = encode(body)
    headers = [
        (b"content-type", b"application/msgpack"),
        (b"content-length", str(len(payload)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if status == 408:
        # What is left of the body is not waited for. After 413 it is, and thrown away: a daemon
        # whose connection breaks while it sends hears no answer, and would send the same again.
        headers.append((b"connection", b"close"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})
