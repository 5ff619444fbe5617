"""Market events, one bar of one symbol each, and their encoding."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

PRICE_PLACES = 4
#: Prices are integers of this unit: exact, and ten times cheaper to decode than text.
PRICE_UNIT = Decimal("0.0001")


class Event(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One bar as a strategy sees it. Prices are kept as integers of 0.0001 and read as Decimal."""

    seq: int  #: position in the feed's log, 1, 2, 3 … without gaps
    symbol: str
    time: int  #: µs since the epoch, UTC, of the bar; the "now" of a strategy
    released: int  #: µs since the epoch at which the feed released it; 0 if read without segments
    open_e4: int
    high_e4: int
    low_e4: int
    close_e4: int
    volume: int

    @property
    def open(self) -> Decimal:
        """Return the opening price, with exactly four places."""
        return PRICE_UNIT * self.open_e4

    @property
    def high(self) -> Decimal:
        """Return the highest price, with exactly four places."""
        return PRICE_UNIT * self.high_e4

    @property
    def low(self) -> Decimal:
        """Return the lowest price, with exactly four places."""
        return PRICE_UNIT * self.low_e4

    @property
    def close(self) -> Decimal:
        """Return the closing price, with exactly four places."""
        return PRICE_UNIT * self.close_e4


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Event])


def to_e4(price: Decimal | str | int) -> int:
    """Return `price` as an integer of 0.0001. Raise ValueError if it has more than four places."""
    scaled = Decimal(price).scaleb(PRICE_PLACES)
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"price {price} has more than {PRICE_PLACES} decimal places")
    return whole


def encode_event(event: Event) -> bytes:
    """Return the bytes of one event, ready for `join_events`."""
    return _encoder.encode(event)


def encode_events(events: Sequence[Event]) -> bytes:
    """Return a batch: the same bytes as `join_events` of the encoded events."""
    return _encoder.encode(list(events))


def join_events(encoded: Sequence[bytes]) -> bytes:
    """Return a batch of encoded events."""
    return _array_header(len(encoded)) + b"".join(encoded)


def decode_events(data: bytes) -> list[Event]:
    """Return the events of a batch. Raise msgspec.DecodeError if the bytes are invalid."""
    return _decoder.decode(data)


def _array_header(length: int) -> bytes:
    """Return the msgpack header of an array, in the shortest form, as msgspec writes it."""
    if length < 16:
        return bytes((0x90 | length,))
    if length < 1 << 16:
        return b"\xdc" + length.to_bytes(2, "big")
    return b"\xdd" + length.to_bytes(4, "big")
