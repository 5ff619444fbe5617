"""What a message of a stream holds: one append, or a claim, which is an append without events.

An append is one message, since JetStream stores one message as a whole or not at all. Each names
the state of the log after it, so that the last message alone says where to go on.
"""

from __future__ import annotations

import msgspec

from portfolios.feeds.log import CHAIN_START
from portfolios.runtime.events import split_events


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
    events: bytes  #: a batch, see `runtime/events.py`

    def records(self) -> list[bytes]:
        """Return its encoded events, of which the first has `from_seq`."""
        return split_events(self.events) if self.events else []


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
