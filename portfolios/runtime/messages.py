"""Messages between a node daemon and a portfolio process: msgpack after a 4-byte length."""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from portfolios.runtime.results import BatchResult
from portfolios.runtime.spec import Spec

HEADER = struct.Struct(">I")  #: big-endian length of the body
MAX_REPLY_BYTES = 16 * 1024 * 1024  #: of a body; a process that announces more is killed


class Load(msgspec.Struct, tag="load"):
    """Load a portfolio; without `state`, a new one. Answered by Loaded or Failed."""

    spec: Spec
    state: bytes | None
    last_seq: int  #: of the state; ignored without one
    trial: bool = False  #: a trial restore: the same work, and another Load may follow
    history: bytes | None = None  #: encoded events to warm up with; None: not asked for yet


class Batch(msgspec.Struct, tag="batch"):
    """Run the events of (from_seq, to_seq], encoded. Answered by Result or Failed."""

    from_seq: int
    to_seq: int
    suppress: bool  #: record what is decided, and place nothing
    events: bytes
    want_state: bool = True
    """False: no commit is due. The state is returned only if a result is urgent."""


class Examine(msgspec.Struct, tag="examine"):
    """Check parameters. Answered by Examined, UnknownName or Failed; nothing is loaded."""

    strategy: str
    parameters: str  #: JSON
    symbols: list[str]
    artifact: str = ""  #: the artifact of the process; empty: the strategy is not of an artifact
    strategy_class: str = ""  #: of an artifact: `package.module:Class`


class Inspect(msgspec.Struct, tag="inspect"):
    """List the strategies of the process's artifact. Answered by Inspected or Failed."""

    artifact: str


class Stop(msgspec.Struct, tag="stop"):
    """Leave the event loop. Not answered."""


class Loaded(msgspec.Struct, tag="loaded"):
    """The portfolio is ready to run from last_seq + 1."""

    last_seq: int
    trial: bool  #: as in the Load
    #: Symbols in use that the spec does not list. Batches must contain their events too.
    extra_symbols: list[str] = []
    needs_history: int = 0
    """Over 0: nothing is loaded yet. Load again with this many events of the spec's symbols, the
    newest up to `last_seq`, or as many as there are."""
    halted: str = ""  #: why its limits stopped it after `last_seq`; the next event clears it

    def symbols(self, spec: Spec) -> frozenset[str] | None:
        """Return the symbols whose events the process needs under `spec`; None: all."""
        traded = spec.symbol_set()
        return None if traded is None else traded.union(self.extra_symbols)


class Result(msgspec.Struct, tag="result"):
    """A batch is done."""

    result: BatchResult


class Failed(msgspec.Struct, tag="failed"):
    """Loading or a batch failed without effect. The process waits for a Load or Stop."""

    stage: Literal["load", "event"]
    seq: int | None  #: the event at which the strategy raised; None: not known, or at no event
    error: str  #: one line
    trace: str  #: end of the traceback, at most 2,000 characters


class Examined(msgspec.Struct, tag="examined"):
    """Declarations of a strategy, and its parameter errors as (field, code, message)."""

    version: int
    sees_every_symbol: bool
    errors: list[tuple[str, str, str]]


class FoundStrategy(msgspec.Struct):
    """The declarations of a strategy of an artifact."""

    name: str
    class_path: str
    version: int
    state_version: int
    schema: str  #: JSON
    sees_every_symbol: bool
    checks: bool  #: parameters must be checked in the strategy's own process
    warm_up: int | None
    summary: str


class Inspected(msgspec.Struct, tag="inspected"):
    """The strategies of an artifact, by name."""

    strategies: list[FoundStrategy]


class UnknownName(msgspec.Struct, tag="unknown_name"):
    """There is no strategy of this name; the text names those that exist."""

    text: str


Request = Load | Batch | Examine | Inspect | Stop
Reply = Loaded | Result | Failed | Examined | Inspected | UnknownName

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Request)
_replies = msgspec.msgpack.Decoder(Reply)


def encode_message(message: Request | Reply) -> bytes:
    """Return the frame: length and body, ready to be written."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body)) + body


def decode_request(body: bytes) -> Request:
    """Return the request of one frame's body. Raise msgspec.DecodeError if it is invalid."""
    return _requests.decode(body)


def decode_reply(body: bytes) -> Reply:
    """Return the reply of one frame's body. Raise msgspec.DecodeError if it is invalid."""
    return _replies.decode(body)
