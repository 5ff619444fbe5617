"""The event loop of a portfolio process: answer the requests that arrive on its socket."""

from __future__ import annotations

import io
import json
import select
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Literal, TextIO, cast

from portfolios.artifacts import load
from portfolios.artifacts.inspection import inspect_artifact
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.errors import ArtifactUnusable, HistoryNeeded, SeqMismatch, StrategyFailed
from portfolios.runtime.events import decode_events
from portfolios.runtime.messages import (
    HEADER,
    MAX_REPLY_BYTES,
    Batch,
    Examine,
    Examined,
    Failed,
    Inspect,
    Inspected,
    Load,
    Loaded,
    Reply,
    Result,
    Stop,
    UnknownName,
    decode_request,
    encode_message,
)
from portfolios.runtime.money import install_context
from portfolios.strategies import registry

CHECK_CPU_S = 4  #: CPU limit of a parameter check, imports included
INSPECT_CPU_S = 20  #: CPU limit of an inspection, imports included
MAX_ERRORS, MAX_MESSAGE = 100, 1000  #: of a parameter check
TRACE_CHARACTERS = 2000  #: of the end of a traceback
TRACE_FRAMES = 20  #: the last ones; formatting all frames of an endless recursion takes too long
MAX_PIPE_WRITE = 4096  #: bytes that a writable pipe accepts without blocking


def serve(
    sock: socket.socket, output_of: Callable[[PortfolioWorker], io.TextIOBase] | None = None
) -> None:
    """Answer requests until Stop, or until the other end closes the socket.

    `output_of` makes the stream that takes what the strategy prints; without it, what stderr does
    not take at once is lost.
    """
    install_context()
    sock.setblocking(True)
    portfolio = PortfolioWorker()
    output: io.TextIOBase = LossyStream(sys.stderr) if output_of is None else output_of(portfolio)
    sys.stdout = sys.stderr = cast(TextIO, output)
    with sock, sock.makefile("rb") as frames:
        while (body := _read_frame(frames)) is not None:
            request = decode_request(body)
            if isinstance(request, Stop):
                return
            answer = portfolio.answer(request)
            output.flush()
            try:
                sock.sendall(_encode_reply(answer))
            except (BrokenPipeError, ConnectionResetError):
                return


class PortfolioWorker:
    """The state of the process between two requests: one engine, or none."""

    def __init__(self) -> None:
        """Start without an engine: a Load makes one."""
        #: The next batch is for this engine; None while a request is carried out.
        self._engine: PortfolioEngine | None = None
        #: The engine of the newest request, if that is a batch.
        self._at_work: PortfolioEngine | None = None

    @property
    def event_seq(self) -> int:
        """Return the seq of the event that is handled now, or was last in this batch.

        0 if the newest request is no batch.
        """
        return 0 if self._at_work is None else self._at_work.event_seq

    def answer(self, request: Load | Batch | Examine | Inspect) -> Reply:
        """Carry out a request. After a failure the engine is discarded: a Load has to follow."""
        if isinstance(request, Examine):
            return _examine(request)
        if isinstance(request, Inspect):
            return _inspect(request)
        engine, self._engine = self._engine, None
        self._at_work = engine if isinstance(request, Batch) else None
        stage: Literal["load", "event"] = "load" if isinstance(request, Load) else "event"
        try:
            if isinstance(request, Load):
                try:
                    self._engine = _load_engine(request)
                except HistoryNeeded as wanted:
                    return Loaded(wanted.last_seq, request.trial, [], needs_history=wanted.events)
                extra = sorted(self._engine.extra_symbols)
                halted = self._engine.state.account.halted
                return Loaded(self._engine.last_seq, request.trial, extra, halted=halted)
            if engine is None:
                raise SeqMismatch(
                    f"a batch up to seq {request.to_seq} came, and no portfolio is loaded:"
                    " a defect to report"
                )
            result = engine.run(
                decode_events(request.events),
                request.from_seq,
                request.to_seq,
                request.suppress,
                request.want_state,
            )
            self._engine = engine
            return Result(result)
        except BaseException as error:  # whatever a strategy raises becomes a Failed reply
            return _failure_reply(stage, error)


def _examine(request: Examine) -> Reply:
    """Return the errors that the strategy finds in parameters, or how the check failed."""
    _limit_cpu_time(CHECK_CPU_S)
    try:
        strategy = (
            load.strategy_class(request.artifact, request.strategy, request.strategy_class)
            if request.artifact
            else registry.get(request.strategy)
        )
        errors = strategy.validate(json.loads(request.parameters), request.symbols)
        wrong = [(str(e.field), str(e.code), str(e.message)[:MAX_MESSAGE]) for e in errors]
        return Examined(int(strategy.version), bool(strategy.sees_every_symbol), wrong[:MAX_ERRORS])
    except registry.UnknownStrategy as unknown:
        return UnknownName(str(unknown)[:MAX_MESSAGE])
    except BaseException as error:  # whatever the strategy raises, and before it saw an event
        return _failure_reply("load", error)


def _inspect(request: Inspect) -> Reply:
    """Return the strategies of the artifact, or why it cannot be used."""
    _limit_cpu_time(INSPECT_CPU_S)
    try:
        return Inspected(inspect_artifact(request.artifact))
    except BaseException as error:
        return _failure_reply("load", error)


def _failure_reply(stage: Literal["load", "event"], error: BaseException) -> Failed:
    """Return the reply that reports an error. If memory ran out, raise the memory limit first."""
    if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
        _lift_memory_limit()
    seq = error.seq if isinstance(error, StrategyFailed) else None
    return Failed(stage, seq, _one_line(error), _trace(error))


def _limit_cpu_time(seconds: int) -> None:
    """Let the kernel kill this process after this much more CPU time, however busy the machine."""
    try:
        import resource

        most = int(time.process_time()) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    except (ImportError, OSError, ValueError):
        pass  # no such limit here


def _encode_reply(reply: Reply) -> bytes:
    """Return the frame of `reply`, or of a Failed reply if it exceeds MAX_REPLY_BYTES."""
    frame = encode_message(reply)
    size = len(frame) - HEADER.size
    if size <= MAX_REPLY_BYTES:
        return frame
    error = f"state and orders of one batch have {size} bytes, limit {MAX_REPLY_BYTES}"
    return encode_message(Failed("event", None, error, ""))


def _lift_memory_limit() -> None:
    """Raise the memory limit to its hard limit, which leaves memory for the error report."""
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    except (ImportError, OSError, ValueError):
        pass  # no such limit here


def _load_engine(request: Load) -> PortfolioEngine:
    history = None if request.history is None else decode_events(request.history)
    if request.state is None:
        return PortfolioEngine.fresh(request.spec, history)
    return PortfolioEngine.restore(request.spec, request.state, request.last_seq, history)


def _read_frame(frames: io.BufferedReader) -> bytes | None:
    """Return the body of the next frame, or None at the end of the stream, even within a frame."""
    try:
        header = frames.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        (size,) = HEADER.unpack(header)
        body = frames.read(size)
    except ConnectionResetError:
        return None
    return body if len(body) == size else None


def _one_line(error: BaseException) -> str:
    """Return the error in one line of up to 500 characters, with its type if the text lacks it."""
    try:
        text = str(error)
    except BaseException:  # raised by the error's own `__str__`
        text = "the error has no text"
    if not isinstance(error, (StrategyFailed, ArtifactUnusable)):
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.split())[:500]


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error, limit=-TRACE_FRAMES))[-TRACE_CHARACTERS:]
    except BaseException:  # raised by the error's own text
        return ""


class LossyStream(io.TextIOBase):
    """Stream for the output of a strategy: a full, closed or missing log never makes it fail."""

    def __init__(self, target: TextIO | None) -> None:
        """Write to `target`; None if the process has no stderr."""
        self._target = target
        self._lost = 0  #: characters dropped since the last write

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write what can be written without blocking. Always return the length of `text`.

        If the pipe is full, the rest is dropped: printing never blocks a strategy. The next write
        says how much was dropped.
        """
        rest = text
        if self._lost:
            rest = f"\n({self._lost:,} characters were lost here)\n{text}"
        try:
            while rest and self._target is not None and self._has_room():
                self._target.write(rest[:MAX_PIPE_WRITE])
                self._target.flush()
                rest, self._lost = rest[MAX_PIPE_WRITE:], 0
            self._lost += min(len(rest), len(text))  # the line about earlier losses does not count
        except (OSError, ValueError):
            self._target = None
        return len(text)

    def _has_room(self) -> bool:
        """Return whether MAX_PIPE_WRITE bytes can be written without blocking."""
        assert self._target is not None
        poll = select.poll()
        poll.register(self._target.fileno(), select.POLLOUT)
        return bool(poll.poll(0))

    def flush(self) -> None:
        """Do nothing: `write` flushes."""
