"""Client of the node protocol: keep-alive POSTs with MessagePack bodies, and the websocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from portfolios.artifacts.load import short
from scheduling.node_daemon.config import NodeConfig
from scheduling.node_daemon.errors import RegistrationRefused, RequestRefused, ServerUnavailable
from scheduling.node_daemon.logs import LOG
from scheduling.wire.messages import (
    CheckpointAnswer,
    CheckpointRequest,
    CommitAnswers,
    DesiredSet,
    FeedAnswer,
    FeedRequest,
    Goodbye,
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    LogAnswer,
    LogRequest,
    Problem,
    Register,
    Registered,
    encode,
)

HEARTBEAT_TIMEOUT_S = 4.0
REQUEST_TIMEOUT_S = 8.0
GOODBYE_TIMEOUT_S = 2.0
PING_INTERVAL_S = 10.0
MAX_PUSH_BYTES = 16 << 20
DOWNLOAD_LIMIT_S, DOWNLOAD_STALL_S = 300.0, 20.0
DOWNLOAD_CHUNK_BYTES = 256 << 10
MAX_LOCK_BYTES = 4 << 20
PARALLEL_DOWNLOADS = 4
UNAUTHORIZED = 401
TOO_LARGE = 413
#: OpenSSL's codes for a certificate that is self-signed or whose issuer is not known here.
UNKNOWN_AUTHORITY = (18, 19, 20, 21)
#: Statuses that show a proxy which altered a websocket request: the gateway refuses with 403.
NO_UPGRADE = (200, 400, 404, 426)
#: Request timeout, too early, too many requests: the same request may succeed later.
TRY_AGAIN = (408, 425, 429)

T = TypeVar("T")


class ControlPlaneClient:
    """Client of one server with one token. Every call returns an answer, or raises one of:

    ServerUnavailable: the outcome is unknown, the request may or may not have been carried out.
    RequestRefused: the server refused this request. RegistrationRefused: the token is not valid.
    """

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._session: aiohttp.ClientSession | None = None
        self._feeds: aiohttp.ClientSession | None = None
        self._downloads: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._closing: asyncio.Task[bool] | None = None  #: kept: else it may be collected

    async def __aenter__(self) -> ControlPlaneClient:
        # Neither requests that wait for market data nor slow downloads may take connections of
        # heartbeats and commits.
        self._session, self._feeds = self._make_session(16), self._make_session(64)
        self._downloads = self._make_session(PARALLEL_DOWNLOADS)
        return self

    def _make_session(self, connections: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._config.token}"},
            connector=aiohttp.TCPConnector(  # ssl=True: the certificates of the system
                limit=connections, keepalive_timeout=60, ssl=self._config.tls or True
            ),
        )

    async def __aexit__(self, *_: object) -> None:
        for session in (self._session, self._feeds, self._downloads):
            assert session is not None
            await session.close()

    async def register(self, message: Register) -> Registered:
        """Register this daemon. Return the node's settings and desired set."""
        return await self._post("register/", encode(message), Registered, REQUEST_TIMEOUT_S)

    async def heartbeat(self, message: Heartbeat) -> HeartbeatAnswer:
        """Send a heartbeat and return its answer."""
        return await self._post("heartbeat/", encode(message), HeartbeatAnswer, HEARTBEAT_TIMEOUT_S)

    async def checkpoint(self, message: CheckpointRequest) -> CheckpointAnswer:
        """Return the newest checkpoint of a portfolio."""
        return await self._post("checkpoint/", encode(message), CheckpointAnswer, REQUEST_TIMEOUT_S)

    async def commit(self, body: bytes) -> CommitAnswers:
        """Return the answers to an encoded CommitRequest."""
        return await self._post("commit/", body, CommitAnswers, REQUEST_TIMEOUT_S)

    async def log(self, message: LogRequest) -> LogAnswer:
        """Hand over lines that portfolio processes printed."""
        return await self._post("log/", encode(message), LogAnswer, HEARTBEAT_TIMEOUT_S)

    async def feed(self, message: FeedRequest) -> FeedAnswer:
        """Return records of a recorded feed; the server waits `message.wait_s` for one to come."""
        limit_s = REQUEST_TIMEOUT_S + message.wait_s
        return await self._post("feed/", encode(message), FeedAnswer, limit_s, self._feeds)

    async def goodbye(self, message: Goodbye) -> None:
        """End the lease of this node."""
        await self._post("goodbye/", encode(message), Any, GOODBYE_TIMEOUT_S)

    def artifact(self, sha256: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open the body of an artifact, whose hash the caller has to check."""
        return self._download(f"artifacts/{sha256}")

    async def environment_lock(self, sha256: str) -> bytes:
        """Return the lock of an environment, whose hash the caller has to check."""
        lock = b""
        async with self._download(f"environments/{sha256}") as body:
            async for chunk in body:
                lock += chunk
                if len(lock) > MAX_LOCK_BYTES:
                    raise RequestRefused(
                        200,
                        "too_large",
                        f"the lock of environment {short(sha256)} has more than "
                        f"{MAX_LOCK_BYTES >> 20} MB, and Ginkgo stores none so large: check the "
                        "proxy in front of the gateway",
                    )
        return lock

    @asynccontextmanager
    async def _download(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open GET /node/PATH and yield the chunks of its body."""
        assert self._downloads is not None
        limit = aiohttp.ClientTimeout(total=DOWNLOAD_LIMIT_S, sock_read=DOWNLOAD_STALL_S)
        try:
            async with self._downloads.get(
                f"{self._config.server}/node/{path}", timeout=limit
            ) as response:
                if response.status != 200:
                    raise _error_of(path, response.status, await response.read())
                yield response.content.iter_chunked(DOWNLOAD_CHUNK_BYTES)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServerUnavailable(f"the gateway did not deliver {path}: {_why(error)}") from None

    async def _post(
        self,
        path: str,
        body: bytes,
        answer: type[T] | Any,
        limit_s: float,
        session: aiohttp.ClientSession | None = None,
    ) -> T:
        """Send `body` and return the decoded answer; None if the answer is empty."""
        session = session or self._session
        assert session is not None
        try:
            async with session.post(
                f"{self._config.server}/api/agent/{path}",
                data=body,
                headers={"Content-Type": "application/msgpack"},
                timeout=aiohttp.ClientTimeout(total=limit_s),
            ) as response:
                data, status = await response.read(), response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServerUnavailable(f"the gateway did not answer {path}: {_why(error)}") from None
        if status in (200, 204):
            try:
                return msgspec.msgpack.decode(data, type=answer) if data else None  # type: ignore[return-value]
            except msgspec.DecodeError as error:
                raise ServerUnavailable(
                    f"the gateway's answer to {path} cannot be read: {error}"
                ) from None
        raise _error_of(path, status, data)

    async def pushes(self, hello: Hello) -> AsyncIterator[DesiredSet | None]:
        """Yield None once connected, then every desired set pushed, until the socket closes.

        Raise ServerUnavailable if the socket cannot be opened, breaks, or carries anything else.
        """
        assert self._session is not None
        try:
            async with self._session.ws_connect(
                self._config.socket_url, heartbeat=PING_INTERVAL_S, max_msg_size=MAX_PUSH_BYTES
            ) as socket:
                self._socket = socket
                await socket.send_bytes(encode(hello))
                yield None
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.BINARY:
                        yield msgspec.msgpack.decode(message.data, type=DesiredSet)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise ServerUnavailable(f"the websocket to the gateway failed: {_why(error)}") from None
        finally:
            self._socket = None

    def close_socket(self) -> None:
        """End `pushes`, without waiting for a server that may not answer."""
        if self._socket is not None:
            self._closing = asyncio.create_task(self._socket.close())


def _why(error: Exception) -> str:
    """Return the text of an error and, where there is one, the setting that helps."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError) and (
        getattr(error.certificate_error, "verify_code", 0) in UNKNOWN_AUTHORITY
    ):
        return f"{error}; --ca takes the certificate of the authority that signed the server's"
    if isinstance(error, aiohttp.WSServerHandshakeError) and error.status in NO_UPGRADE:
        return f"{error}; the proxy has to pass websockets: Upgrade, Connection (deploy/nginx.conf)"
    return str(error) or type(error).__name__  # such as TimeoutError, which has no text


def _error_of(path: str, status: int, data: bytes) -> Exception:
    """Return the error for an answer other than 200."""
    answered = f"the gateway answered {path} with {status}"
    try:
        problem = msgspec.msgpack.decode(data, type=Problem)
    except msgspec.DecodeError:  # the gateway's own answers have a message
        message = f"{answered}, and not as a gateway does: is it a proxy's answer?"
        problem = Problem(code="", message=message)
    if status == UNAUTHORIZED:
        return RegistrationRefused(problem.message)
    if status == TOO_LARGE and not problem.code:
        # A proxy answered: the gateway's own answer has a code. A repeat would be refused too.
        return RequestRefused(
            status,
            "payload_too_large",
            f"a proxy in front of the gateway refused the body of {path} as too large (413): let "
            "it pass 32 MB (nginx: client_max_body_size 32m)",
        )
    if status >= 500 or status in TRY_AGAIN or not problem.code:
        return ServerUnavailable(
            f"{answered}: {problem.message}" if problem.code else problem.message
        )
    return RequestRefused(status, problem.code, problem.message)


async def patiently(
    what: str, attempt: Callable[[], Awaitable[T]], first_s: float = 0.1, max_s: float = 1.0
) -> T:
    """Return the result of `attempt`, repeated while the server is away. Log that `what` waits.

    It is also repeated after a refused token: if the token was revoked, the next heartbeat ends the
    daemon anyway.
    """
    attempts = 0
    while True:
        try:
            return await attempt()
        except (ServerUnavailable, RegistrationRefused) as error:
            if attempts % 10 == 0:
                LOG.warning("%s waits for the server: %s", what, error)
            await back_off(attempts, first_s, max_s)
            attempts += 1


async def back_off(attempt: int, first_s: float, max_s: float) -> None:
    """Sleep `first_s` after attempt 0, twice as long after each further one, up to `max_s`."""
    await asyncio.sleep(min(first_s * 2 ** min(attempt, 16), max_s))
