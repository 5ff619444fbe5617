"""Messages between a node daemon and a portfolio process: msgpack behind a 4-byte length."""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from portfolios.runtime.results import BatchResult
from portfolios.runtime.spec import Spec

HEADER = struct.Struct(">I")  #: big endian length of the body
MAX_REPLY_BYTES = 16 * 1024 * 1024  #: bytes of a body; a process that announces more is ended


class Load(msgspec.Struct, tag="load"):
    """Load (again) this spec; `state` None means fresh. Answered by Loaded or Failed."""

    spec: Spec
    state: bytes | None
    last_seq: int  #: of the state; ignored when fresh
    trial: bool = False  #: a trial restore: the same work, and another Load may follow


class Batch(msgspec.Struct, tag="batch"):
    """Run (from_seq, to_seq]. `events` is `encode_events` or `join_events`. Result or Failed."""

    from_seq: int
    to_seq: int
    suppress: bool
    events: bytes


class Examine(msgspec.Struct, tag="examine"):
    """Check parameters. Answered by Examined, UnknownName or Failed; nothing is loaded."""

    strategy: str
    parameters: str  #: JSON
    symbols: list[str]


class Stop(msgspec.Struct, tag="stop"):
    """End. No answer; the process leaves its loop."""


class Loaded(msgspec.Struct, tag="loaded"):
    """The portfolio is ready to run from last_seq + 1."""

    last_seq: int
    trial: bool
    #: Held or ordered, and not among the symbols of the spec. Batches must hold their events too.
    extra_symbols: list[str] = []

    def symbols(self, spec: Spec) -> frozenset[str] | None:
        """Return the symbols whose events the process needs under `spec`; None: every symbol."""
        traded = spec.symbol_set()
        return None if traded is None else traded.union(self.extra_symbols)


class Result(msgspec.Struct, tag="result"):
    """A batch is done."""

    result: BatchResult


class Failed(msgspec.Struct, tag="failed"):
    """Loading or a batch failed; nothing of it counts. The process waits for a new Load or Stop."""

    stage: Literal["load", "event"]
    seq: int | None
    error: str  #: one line
    trace: str  #: end of the traceback, at most 2,000 characters


class Examined(msgspec.Struct, tag="examined"):
    """What a strategy declares of itself, and what it finds wrong: (field, code, message)."""

    version: int
    sees_every_symbol: bool
    errors: list[tuple[str, str, str]]


class UnknownName(msgspec.Struct, tag="unknown_name"):
    """Unknown strategy; the text names the known ones."""

    text: str


Request = Load | Batch | Examine | Stop
Reply = Loaded | Result | Failed | Examined | UnknownName

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Request)
_replies = msgspec.msgpack.Decoder(Reply)


def encode_message(message: Request | Reply) -> bytes:
    """Return the frame: length and body, ready to be written."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body)) + body


def decode_request(body: bytes) -> Request:
    """Return the request of one frame's body. Raise msgspec.DecodeError if it is none."""
    return _requests.decode(body)


def decode_reply(body: bytes) -> Reply:
    """Return the reply of one frame's body. Raise msgspec.DecodeError if it is none."""
    return _replies.decode(body)
