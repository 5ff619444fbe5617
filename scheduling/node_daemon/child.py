"""One portfolio process, seen from the daemon: requests, replies and time limits."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from typing import cast

from portfolios.runtime.messages import (
    HEADER,
    MAX_REPLY_BYTES,
    Batch,
    Failed,
    Load,
    Loaded,
    Result,
    encode_message,
)
from portfolios.runtime.results import BatchResult
from scheduling.node_daemon.clock import boottime_s
from scheduling.node_daemon.errors import ChildFailed, ForkserverDied
from scheduling.node_daemon.forkserver import SERVE
from scheduling.node_daemon.forkserver_client import (
    Artifact,
    ForkserverClient,
    SpawnedProcess,
    kill_group,
)
from scheduling.node_daemon.process_output import LineSink
from scheduling.node_daemon.reply_validation import InvalidReply, validate_reply
from scheduling.wire.messages import Stage

LATE_REPLY_S = 0.3  #: extra time for a reply that arrived while the daemon was suspended
#: How long the forkserver may take to report how a process ended, after the socket was closed.
END_REPORTED_WITHIN_S = 5.0
RECENTLY_BUSY_S = 0.1  #: a process that answered less than this long ago counts as busy


class Child:
    """A process that runs one portfolio. Replies come in the order of requests.

    The reply to a cancelled request is dropped. The state of the process is unknown from then on:
    the next request has to be a load.
    """

    def __init__(self, process: SpawnedProcess, pid: int) -> None:
        """Wrap a running process. Use `start_child`."""
        self.pid = pid
        self.busy = False  #: it is handling a request
        self._worked_at_s = float("-inf")  #: when its last request ended
        self._end_failure: ChildFailed | None = None  #: why the daemon killed it
        self._process = process
        self._protocol: _FrameProtocol | None = None

    async def load(self, request: Load, limit_s: float) -> Loaded:
        """Load a state and return the reply. Raise ChildFailed if it fails or takes too long."""
        reply = await self._request(request, limit_s)
        assert isinstance(reply, Loaded), reply
        return reply

    async def run(self, request: Batch, limit_s: float) -> BatchResult:
        """Run a batch and return its result. Raise ChildFailed if it fails or takes too long."""
        reply = await self._request(request, limit_s)
        assert isinstance(reply, Result), reply
        return reply.result

    async def _request(self, request: Load | Batch, limit_s: float) -> Loaded | Result:
        """Send a request and return the valid reply. Raise ChildFailed."""
        self.busy = True
        try:
            reply = validate_reply(request, await self._reply_body(request, limit_s))
        except InvalidReply as protocol_error:
            raise self._kill_for("exit", f"its process answered {protocol_error}") from None
        finally:
            self.busy, self._worked_at_s = False, boottime_s()
        if isinstance(reply, Failed):
            self._process.note(reply.trace)
            raise ChildFailed(reply.stage, reply.error, reply.seq)
        return reply

    async def _reply_body(self, request: Load | Batch, limit_s: float) -> bytes:
        """Return the undecoded reply. Raise InvalidReply or ChildFailed."""
        assert self._protocol is not None
        answer = self._protocol.send(encode_message(request))
        done, _ = await asyncio.wait([answer], timeout=limit_s)
        if not done:  # a daemon that was suspended runs expired timers before it reads sockets
            done, _ = await asyncio.wait([answer], timeout=LATE_REPLY_S)
        if not done:
            raise self._kill_for("killed", _timeout_sentence(request, limit_s))
        try:
            return answer.result()
        except ConnectionError:
            raise await self.failure_of_end() from None

    def _kill_for(self, stage: Stage, sentence: str) -> ChildFailed:
        """Kill the process and return the failure that says why.

        Every other request that waits for an answer of the process raises the same failure.
        """
        failure = self._end_failure = ChildFailed(stage, self._with_last_output(sentence))
        self.kill()
        return failure

    def _with_last_output(self, sentence: str) -> str:
        """Return `sentence` with the last output of the process, which is the best hint."""
        printed = self._process.last_output()
        return f"{sentence}; its last output: {printed}" if printed else sentence

    @property
    def has_ended(self) -> bool:
        """Return whether no reply comes: it has ended, or its socket is closed or not open yet."""
        return self._process.status.done() or self._protocol is None or self._protocol.is_closed

    async def failure_of_end(self) -> ChildFailed:
        """Return the failure that describes how the process ended. Call it once `has_ended`.

        Wait for its exit status; kill it if there is none after END_REPORTED_WITHIN_S.
        """
        if self._protocol is not None and self._protocol.protocol_error is not None:
            return self._kill_for("exit", f"its process answered {self._protocol.protocol_error}")
        if self._end_failure is not None:
            return self._end_failure
        try:
            async with asyncio.timeout(END_REPORTED_WITHIN_S):
                status = await asyncio.shield(self._process.status)
        except TimeoutError:
            self.kill()
            return ChildFailed(
                "exit", self._with_last_output("its process closed its socket and did not end")
            )
        if self._process.vanished:
            # A process that kills the forkserver may finish its batch before it dies itself.
            was_busy = self.busy or boottime_s() - self._worked_at_s < RECENTLY_BUSY_S
            return ForkserverDied(process_was_busy=was_busy)
        exit_code = os.waitstatus_to_exitcode(status)  # negative: the signal that ended it
        sentence = f"its process exited with status {exit_code}"
        if exit_code < 0:
            sentence = f"its process was ended by {_signal_name(-exit_code)}"
        return ChildFailed("exit", self._with_last_output(sentence))

    async def wait_for_end(self) -> ChildFailed:
        """Wait until the process ends by itself, and return the failure that describes how."""
        await asyncio.shield(self._process.status)
        return await self.failure_of_end()

    def kill(self) -> None:
        """Kill the process and its group at once."""
        if not self._process.status.done():
            kill_group(self.pid)
        if self._protocol is not None:
            self._protocol.close()


def _timeout_sentence(request: Load | Batch, limit_s: float) -> str:
    """Return the sentence for a request that was not answered in time, with what helps."""
    if isinstance(request, Batch):
        return (
            f"a batch took longer than its limit of {limit_s:g} s: look for an endless loop or "
            "slow code, or raise GINKGO_BATCH_LIMIT_S on the node"
        )
    return (
        f"a load took longer than its limit of {limit_s:g} s: let the strategy do less when it is "
        "made or adapts its state"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no name
        return f"signal {number}"


async def start_child(
    forkserver: ForkserverClient,
    name: str,
    sink: LineSink | None = None,
    artifact: Artifact | None = None,
) -> Child:
    """Start a process that waits for its load. Raise ChildFailed if it does not start.

    The lines that it prints are logged with `name`, and given to `sink`.
    """
    sock, process = forkserver.spawn(SERVE, name, sink, artifact)
    try:
        pid = await asyncio.shield(process.pid)
        child = Child(process, pid)
        loop = asyncio.get_running_loop()
        _, child._protocol = await loop.create_unix_connection(_FrameProtocol, sock=sock)
    except BaseException:
        sock.close()  # closing it makes the process exit
        raise
    return child


class _FrameProtocol(asyncio.Protocol):
    """The socket of a process. Each reply, a length and a body, answers the oldest open request."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.is_closed = False  #: no further reply comes
        self.protocol_error: InvalidReply | None = None  #: how it violated the protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass

    def send(self, frame: bytes) -> asyncio.Future[bytes]:
        """Send an encoded request. Return the future of the body of its reply.

        The future fails with ConnectionError if the socket closes, with InvalidReply if the process
        sends anything else.
        """
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self.is_closed or self._transport is None:
            answer.set_exception(ConnectionResetError())
        else:
            self._waiting.append(answer)
            self._transport.write(frame)
        return answer

    def data_received(self, data: bytes) -> None:
        """Give each complete frame to the oldest request; refuse a frame that answers none."""
        self._buffer += data
        buffer, start = self._buffer, 0
        while len(buffer) - start >= HEADER.size:
            (length,) = HEADER.unpack_from(buffer, start)
            if length > MAX_REPLY_BYTES:
                self._refuse(f"with {length} bytes, limit {MAX_REPLY_BYTES}")
                return
            if not self._waiting:
                self._refuse("without a request")
                return
            end = start + HEADER.size + length
            if len(buffer) < end:
                break
            body = bytes(buffer[start + HEADER.size : end])
            start = end
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_result(body)
        del buffer[:start]

    def _refuse(self, how: str) -> None:
        """Stop reading from a process that violates the protocol: it answered `how`."""
        self.protocol_error = InvalidReply(how)
        self._fail_waiting(self.protocol_error)
        self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail_waiting(ConnectionResetError())

    def _fail_waiting(self, error: Exception) -> None:
        """Fail every waiting request with `error`; no further reply is taken."""
        self.is_closed = True
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # mark it as retrieved: its caller may have been cancelled
        self._waiting.clear()
        self._buffer.clear()

    def close(self) -> None:
        """Close the daemon's end of the socket."""
        if self._transport is not None:
            self._transport.abort()
