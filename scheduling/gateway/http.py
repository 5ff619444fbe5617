"""The part of HTTP that the node protocol needs: bodies up to a limit, answers, refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec
import psycopg
from django.conf import settings

from scheduling.wire.messages import Problem, encode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


LOOPBACK = ("127.0.0.1", "::1", "")  #: "": the peer of a socket file


class RequestRejected(Exception):
    """Answer the request with this status and problem."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(code=code, message=message)


class ClientGone(Exception):
    """The daemon closed the connection before its request had arrived completely."""


def refuse_plain_http(scope: Scope, headers: Mapping[bytes, bytes]) -> None:
    """Reject a request without TLS if GINKGO_HTTPS requires it.

    A daemon on this machine may connect directly: traffic that stays on the machine needs no TLS.
    """
    if not settings.GINKGO.https or headers.get(b"x-forwarded-proto") == b"https":
        return
    peer = (scope.get("client") or ("",))[0]
    if peer in LOOPBACK and b"x-forwarded-for" not in headers:
        return
    raise RequestRejected(
        403,
        "forbidden",
        "This request came without X-Forwarded-Proto: https. Either the proxy in front of the web "
        "processes does not set it, or the request was sent without TLS, so that its token could "
        "be read in transit: then use the https:// address of the server and a new token "
        "(create_node_token).",
    )


def primary_message(error: psycopg.Error) -> str:
    """Return the first line of a database error: the problem, without the statement."""
    return error.diag.message_primary or type(error).__name__


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the complete body. Raise RequestRejected 413 over `limit` bytes, or ClientGone."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large(limit)
        if not message.get("more_body"):
            return b"".join([*parts, part]) if parts else part  # a single part is not copied
        parts.append(part)


def too_large(limit: int) -> RequestRejected:
    """Return the refusal of a body over `limit` bytes."""
    return RequestRejected(
        413, "payload_too_large", f"The body is over {limit:,} bytes; send less at a time."
    )


async def respond(send: Send, body: msgspec.Struct, status: int = 200) -> None:
    """Send one MessagePack response."""
    await send_payload(send, encode(body), status)


async def send_payload(
    send: Send, payload: bytes, status: int = 200, *, until_read: bool = False
) -> None:
    """Send an encoded response. With `until_read`, return once the peer has taken most of it."""
    headers = [
        (b"content-type", b"application/msgpack"),
        (b"content-length", str(len(payload)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if status == 408:
        # The rest of the body is not read. After 413, in contrast, it is read and discarded: a
        # daemon whose connection breaks while it sends sees no answer, and sends the body again.
        headers.append((b"connection", b"close"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload, "more_body": until_read})
    if until_read:  # the server takes this message once less than 64 KiB before it are unread
        await send({"type": "http.response.body", "body": b""})
