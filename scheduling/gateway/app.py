"""The node protocol as an ASGI application of its own, outside Django.

Heartbeat, commit and release are the hot paths of the platform; a Django view costs five to eight
times as much. The steps of every request: find its route, authenticate its node, admit it within
the node's limits, read its body, handle it, respond. A handler decodes the message, runs its
transactions, and returns the answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
import psycopg
from psycopg.errors import DiskFull
from psycopg_pool import PoolTimeout

from ginkgo_site.http_limits import ABORT, SENDER_KNOWN
from scheduling.db.disk_space import DISK_SPACE
from scheduling.db.transaction import CONNECTION_LOST
from scheduling.errors import Refused
from scheduling.gateway.auth import NodeIdentity, Unauthenticated, authenticate_node
from scheduling.gateway.commits import answer_checkpoint, answer_commits
from scheduling.gateway.downloads import PREFIX, DownloadBroken, serve_download
from scheduling.gateway.feed_reads import answer_feed
from scheduling.gateway.heartbeat import answer_heartbeat
from scheduling.gateway.heartbeat_batcher import HeartbeatExpired
from scheduling.gateway.http import (
    ClientGone,
    Receive,
    RequestRejected,
    Scope,
    Send,
    primary_message,
    refuse_plain_http,
    respond,
    send_payload,
)
from scheduling.gateway.node_limits import Admission
from scheduling.gateway.portfolio_logs import answer_log
from scheduling.gateway.registration import answer_goodbye, answer_registration
from scheduling.gateway.request_bodies import (
    MAX_COMMIT_BODY,
    MAX_LOG_BODY,
    MAX_SMALL_BODY,
    RequestBody,
)
from scheduling.gateway.request_metrics import request_seconds
from scheduling.wire.messages import Problem, encode

logger = logging.getLogger(__name__)

#: Delay before the answer to a malformed request, or to one beyond a limit. A daemon sends no such
#: request. Another client would repeat it at once, and a malformed message costs as much to read as
#: a valid one.
REJECTION_DELAY_S = 1.0
#: Bytes of an answer that the socket takes at once. The rest of a larger answer stays in the memory
#: of this process until the peer reads it.
LARGE_ANSWER = 64 << 10
#: Seconds within which a large answer must be read, by kind of request: then a daemon gives up, and
#: repeats the request. Of these kinds, a node may have only one in progress.
READ_WITHIN_S = {"heartbeat": 4.0, "register": 8.0}
LONGEST_READ_S = 10.0
MALFORMED = (400, 413)
TOO_MANY = 429
CLIENT_GONE = 499  #: in the metric: the request or the answer did not pass completely


async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request below /api/agent/, or a download below /node/."""
    kind, began_s = "", time.monotonic()  # a request without a kind is not measured
    status = 200
    try:
        headers = dict(scope["headers"])
        if scope["path"].startswith(PREFIX):
            await serve_download(scope, headers, send)
            return
        route = _route(scope)
        kind = route.kind
        refuse_plain_http(scope, headers)
        sender = await authenticate_node(headers.get(b"authorization"))
        async with Admission(sender.node, route.kind):
            # Tell Ginkgo's HTTP server that the sender is known: the node's own limits bound its
            # bodies now, not those of unknown senders. Another server has no such limits.
            if mark_known := scope.get(SENDER_KNOWN):
                mark_known()
            async with RequestBody(sender.node, receive, headers, route.limit) as body:
                try:
                    answer = await route.handler(sender, body)
                except RequestRejected as rejected:
                    if rejected.status in MALFORMED:
                        await asyncio.sleep(REJECTION_DELAY_S)
                    raise
            payload = encode(answer)
            if len(payload) > LARGE_ANSWER:
                # Send it within the admission: otherwise a node that reads none of its answers
                # could ask for any number of them.
                within_s = READ_WITHIN_S.get(kind, LONGEST_READ_S)
                if not await _send_large(scope, send, payload, within_s):
                    status = CLIENT_GONE
                return
        # Send a small answer after the admission has ended: a dead peer, which never reads it, is
        # noticed only after minutes.
        await send_payload(send, payload)
    except ClientGone:
        status = CLIENT_GONE
    except DownloadBroken as broken:
        logger.info("%s was not sent completely: %s", scope["path"], broken)
    except RequestRejected as rejected:
        if rejected.status == TOO_MANY:
            await asyncio.sleep(REJECTION_DELAY_S)
        status = rejected.status
        await respond(send, rejected.problem, status)
    except Exception as error:
        status, code, message = _problem(error, scope["path"])
        await respond(send, Problem(code=code, message=message), status)
    finally:
        if kind:
            request_seconds(kind, status).observe(time.monotonic() - began_s)


async def _send_large(scope: Scope, send: Send, payload: bytes, within_s: float) -> bool:
    """Send an answer. Return whether the peer read it in time; if not, end the connection."""
    try:
        async with asyncio.timeout(within_s):
            await send_payload(send, payload, until_read=True)
    except TimeoutError:
        logger.info("the answer to %s was not read within %g s", scope["path"], within_s)
        scope.get(ABORT, bool)()  # of Ginkgo's HTTP server; with another one this does nothing
        await asyncio.sleep(0)  # else the server does not know the end yet, and logs an error
        return False
    return True


def _problem(error: Exception, path: str) -> tuple[int, str, str]:
    """Return (status, code, message) for an exception, and log what the operator should know."""
    match error:
        case Unauthenticated():
            return 401, "unauthenticated", str(error)
        case Refused():
            return error.status, error.code, error.message
        case psycopg.DataError() | psycopg.IntegrityError():
            return 400, "invalid", f"A value does not fit: {primary_message(error)}."
        case DiskFull():
            DISK_SPACE.note_refused(error)
            logger.error("answered 503 to %s: %s", path, primary_message(error))
            return 503, "unavailable", "The database's disk is full; repeat once it has space."
    if isinstance(error, (*CONNECTION_LOST, PoolTimeout, HeartbeatExpired)):
        logger.info("answered 503 to %s: %s", path, type(error).__name__)
        return 503, "unavailable", "The database does not answer now; repeat."
    # An internal error. The daemon repeats the request; the traceback is for the operator.
    logger.error("a request to %s failed, a defect to report", path, exc_info=error)
    return 500, "unavailable", "Internal error: report the traceback in the gateway's log; repeat."


class Route(NamedTuple):
    """How requests to one address are handled. A body has at most `limit` bytes."""

    kind: str
    handler: Callable[[NodeIdentity, bytes], Awaitable[msgspec.Struct]]
    limit: int


ROUTES = {
    f"/api/agent/{route.kind}/": route
    for route in (
        Route("register", answer_registration, MAX_SMALL_BODY),
        Route("heartbeat", answer_heartbeat, MAX_SMALL_BODY),
        Route("checkpoint", answer_checkpoint, MAX_SMALL_BODY),
        Route("commit", answer_commits, MAX_COMMIT_BODY),
        Route("goodbye", answer_goodbye, MAX_SMALL_BODY),
        Route("log", answer_log, MAX_LOG_BODY),
        Route("feed", answer_feed, MAX_SMALL_BODY),
    )
}


def _route(scope: Scope) -> Route:
    """Return the route of a request. Raise RequestRejected 404 or 405."""
    found = ROUTES.get(scope["path"])
    if found is None:
        raise RequestRejected(
            404, "not_found", f"The node protocol has no address {scope['path'][:80]}."
        )
    if scope["method"] != "POST":
        raise RequestRejected(405, "invalid", "The node protocol takes POST only.")
    return found
