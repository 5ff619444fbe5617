"""Artifacts and locks for nodes: `GET /node/artifacts/SHA256`, `GET /node/environments/SHA256`.

A node gets what its portfolios need, by its token, and nothing else. An artifact is sent in parts,
each read by a short statement of its own: a slow node holds neither a connection nor more than one
part in memory. Parts are read one at a time for the whole process, so that any number of nodes that
fetch at once leave the other connections of the pool to commits.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping

from scheduling.db.transaction import aexecute_autocommit
from scheduling.gateway.auth import NodeIdentity, authenticate_node
from scheduling.gateway.http import RequestRejected, Scope, Send, refuse_plain_http
from scheduling.gateway.node_limits import Admission
from scheduling.gateway.pool import work_connection, work_pool
from scheduling.observe.node_files import environment_lock, wheel_part, wheel_size

logger = logging.getLogger(__name__)

PREFIX = "/node/"
PART_BYTES = 256 << 10
DOWNLOAD_LIMIT_S = 300.0  #: of one file, to a node that reads slowly
_PATH = re.compile(r"/node/(artifacts|environments)/([0-9a-f]{64})")

_one_part = asyncio.Lock()  #: held while a part is read


class DownloadBroken(Exception):
    """The answer had begun and cannot be completed: the connection is closed."""


async def serve_download(scope: Scope, headers: Mapping[bytes, bytes], send: Send) -> None:
    """Answer one GET below /node/. Raise RequestRejected, Unauthenticated or DownloadBroken."""
    refuse_plain_http(scope, headers)
    sender = await authenticate_node(headers.get(b"authorization"))
    found = _PATH.fullmatch(scope["path"])
    if found is None:
        raise RequestRejected(
            404, "not_found", f"{scope['path'][:80]} is not the address of an artifact or lock."
        )
    if scope["method"] != "GET":
        raise RequestRejected(405, "invalid", "Files for nodes are read with GET only.")
    kind, sha256 = found.groups()
    async with Admission(sender.node, "download"):
        if kind == "artifacts":
            await _send_artifact(sender, sha256, send)
        else:
            await _send_lock(sender, sha256, send)


async def _send_lock(sender: NodeIdentity, sha256: str, send: Send) -> None:
    """Send a lock. Raise RequestRejected 404 if no portfolio of the node needs it."""
    async with work_connection(sender.node) as connection:
        lock = await aexecute_autocommit(connection, environment_lock(sender.node, sha256))
    if lock is None:
        raise _refusal(sender, "environment", sha256)
    data = lock.encode()
    await _send_headers(send, len(data), b"text/plain; charset=utf-8")
    await send({"type": "http.response.body", "body": data})


async def _send_artifact(sender: NodeIdentity, sha256: str, send: Send) -> None:
    """Send an artifact in parts. Raise RequestRejected 404, or DownloadBroken after its start."""
    async with work_connection(sender.node) as connection:
        size = await aexecute_autocommit(connection, wheel_size(sender.node, sha256))
    if size is None:
        raise _refusal(sender, "artifact", sha256)
    part = await _read_part(sender, sha256, 0)
    await _send_headers(send, size, b"application/octet-stream")
    sent, limit = 0, asyncio.timeout(DOWNLOAD_LIMIT_S)
    try:
        async with limit:
            while part:
                end = sent + len(part)
                await send({"type": "http.response.body", "body": part, "more_body": end < size})
                sent = end
                part = await _read_part(sender, sha256, sent) if sent < size else b""
    except Exception as error:
        sent_part = f"{sent} of {size} bytes"
        if limit.expired():
            raise DownloadBroken(f"only {sent_part} within {DOWNLOAD_LIMIT_S:g} s") from error
        raise DownloadBroken(f"{type(error).__name__} after {sent_part}: {error}") from error
    if sent < size:
        raise DownloadBroken(f"the artifact was deleted after {sent} of {size} bytes")
    logger.info("node %s fetched artifact %s: %d bytes", sender.name, sha256[:12], size)


async def _read_part(sender: NodeIdentity, sha256: str, start: int) -> bytes:
    # Admission first: while this request waits for it, other nodes can read their parts.
    async with Admission(sender.node, "work"), _one_part, work_pool().connection() as connection:
        return await aexecute_autocommit(connection, wheel_part(sha256, start, PART_BYTES))


def _refusal(sender: NodeIdentity, what: str, sha256: str) -> RequestRejected:
    """Return the refusal of a file that no portfolio of the node needs."""
    return RequestRejected(
        404, "not_found", f"No portfolio of node {sender.name} needs the {what} {sha256[:12]}… now."
    )


async def _send_headers(send: Send, size: int, content_type: bytes) -> None:
    headers = [
        (b"content-type", content_type),
        (b"content-length", str(size).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
