"""What a message of a stream holds: one append, or a claim, which is an append without events.

An append is one message, since JetStream stores one message as a whole or not at all. Each message
carries the state of the log after it, so that the last message alone says where to go on. If an
append is too large for one message, its records are stored before it as pieces, in a stream of
their own, and the message names the pieces: they are part of the log once that message is stored.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from portfolios.feeds.log import CHAIN_START
from portfolios.runtime.events import join_events, split_events


class Piece(NamedTuple):
    """Records of one append, stored apart from its message."""

    to_seq: int
    number: int  #: of its message in the stream of pieces


class Block(msgspec.Struct, array_like=True, frozen=True):
    """One append. `from_seq` > `to_seq`: a claim."""

    epoch: int
    writer: str
    from_seq: int
    to_seq: int
    released_us: int
    chain: bytes  #: the hash chain up to `to_seq`
    cursor: str
    source: str  #: that numbered this append; empty: none did
    number: int  #: of the append, by its source
    sha256: str  #: of the append's rows, by which a repeat is known
    segments: list[tuple[int, bytes]]  #: (segment, hash) of the chain's segments that end in it
    times: dict[str, int]  #: symbol → event time of its newest record in this append, in µs
    events: bytes  #: a batch, see `runtime/events.py`; empty if it is in pieces
    pieces: list[Piece] = []  #: in the order of their seqs
    piece: int = 0  #: number of the newest piece that this append or an earlier one has

    def records(self) -> list[bytes]:
        """Return the encoded events from `from_seq` on; [] if pieces, other messages, hold them."""
        return split_events(self.events) if self.events else []

    def in_pieces(self, room: int) -> list[tuple[int, bytes]]:
        """Return the events as (last seq, batch), each batch of at most about `room` bytes."""
        pieces: list[tuple[int, bytes]] = []
        batch: list[bytes] = []
        size = 0
        for seq, event in enumerate(self.records(), start=self.from_seq):
            if batch and size + len(event) > room:
                pieces.append((seq - 1, join_events(batch)))
                batch, size = [], 0
            batch.append(event)
            size += len(event)
        return [*pieces, (self.to_seq, join_events(batch))]


#: The state of a stream without a message.
EMPTY = Block(
    epoch=0, writer="", from_seq=1, to_seq=0, released_us=0, chain=CHAIN_START, cursor="",
    source="", number=0, sha256="", segments=[], times={}, events=b"",
)  # fmt: skip

#: From a block to the body of its message, and back; DecodeError if the body holds no block.
encode_block = msgspec.msgpack.Encoder().encode
decode_block = msgspec.msgpack.Decoder(Block).decode
