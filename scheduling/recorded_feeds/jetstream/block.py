"""What a message of a stream holds: one append, or a claim, which is an append without events.

An append is one message, since JetStream stores one message as a whole or not at all. Each names
the state of the log after it, so that the last message alone says where to go on. The records of an
append that is too large for one message are stored before it as pieces, in a stream of their own,
and the message names them: they are part of the log once it is stored.
"""

from __future__ import annotations

import msgspec

from portfolios.feeds.log import CHAIN_START
from portfolios.runtime.events import join_events, split_events


class Block(msgspec.Struct, array_like=True, frozen=True):
    """One append. `from_seq` > `to_seq`: a claim."""

    epoch: int
    writer: str
    from_seq: int
    to_seq: int
    released_us: int
    chain: bytes  #: after `to_seq`
    cursor: str
    source: str
    number: int
    sha256: str
    segments: list[tuple[int, bytes]]  #: links of the chain that end in it
    times: dict[str, int]  #: of the newest record of each of its symbols
    events: bytes  #: a batch, see `runtime/events.py`; empty if it is in pieces
    pieces: list[tuple[int, int]] = []  #: (last seq, number in the stream of pieces), in order
    piece: int = 0  #: the newest number in the stream of pieces that is named up to here

    def records(self) -> list[bytes]:
        """Return its encoded events, of which the first has `from_seq`."""
        return split_events(self.events) if self.events else []

    def in_pieces(self, room: int) -> list[tuple[int, bytes]]:
        """Return its events as (last seq, batch), each batch of about `room` bytes at most."""
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
EMPTY = Block(0, "", 1, 0, 0, CHAIN_START, "", "", 0, "", [], {}, b"")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Block)


def encode_block(block: Block) -> bytes:
    """Return the body of a message."""
    return _encoder.encode(block)


def decode_block(data: bytes) -> Block:
    """Return the block of a message. Raise msgspec.DecodeError if it is none."""
    return _decoder.decode(data)
