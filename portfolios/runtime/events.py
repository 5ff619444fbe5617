"""Market events, and their encoding. A feed is a log of them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import ClassVar, Literal, cast

import msgspec

PRICE_PLACES = 4  #: of events that carry no scale of their own
MAX_SCALE = 12  #: most decimal places of a price
#: A price is an integer of UNITS[scale]: exact, and ten times cheaper to decode than text.
UNITS = tuple(Decimal(1).scaleb(-scale) for scale in range(MAX_SCALE + 1))

Side = Literal["buy", "sell"]


class Event(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One market event. Prices are kept as integers (`…_units`) and read as Decimal.

    A trade or a quote can be read as a bar, so that a strategy for bars runs on each of them. An
    event without a price (`has_price`) changes no account and reaches no `on_event`.
    """

    seq: int  #: position in the feed's log, 1, 2, 3 … without gaps
    symbol: str
    time: int  #: µs since the epoch, UTC, at the source; the "now" of a strategy
    released: int  #: µs since the epoch at which the feed released it; 0 if read without segments

    has_price: ClassVar[bool] = True
    scale: ClassVar[int] = PRICE_PLACES  #: decimal places of its prices

    def fill_units(self, side: Side) -> int:
        """Return the price at which a waiting market order is filled."""
        return self.open_units

    def range_units(self, side: Side) -> tuple[int, int]:
        """Return the lowest and highest price at which an order of `side` can be filled."""
        return self.low_units, self.high_units

    @property
    def open_units(self) -> int:
        """Return the first price in units of 10**-scale; 0 without a price."""
        return 0

    @property
    def high_units(self) -> int:
        """Return the highest price in units of 10**-scale; 0 without a price."""
        return 0

    @property
    def low_units(self) -> int:
        """Return the lowest price in units of 10**-scale; 0 without a price."""
        return 0

    @property
    def close_units(self) -> int:
        """Return the last price, which values positions, in units of 10**-scale; 0 without one."""
        return 0

    @property
    def volume(self) -> int:
        """Return how much was traded, in lots of the instrument; 0 without a trade."""
        return 0

    def price(self, units: int) -> Decimal:
        """Return `units` as a price with exactly `scale` places."""
        return UNITS[self.scale] * units

    @property
    def open(self) -> Decimal:
        """Return the first price, with exactly `scale` places."""
        return UNITS[self.scale] * self.open_units

    @property
    def high(self) -> Decimal:
        """Return the highest price, with exactly `scale` places."""
        return UNITS[self.scale] * self.high_units

    @property
    def low(self) -> Decimal:
        """Return the lowest price, with exactly `scale` places."""
        return UNITS[self.scale] * self.low_units

    @property
    def close(self) -> Decimal:
        """Return the last price, with exactly `scale` places."""
        return UNITS[self.scale] * self.close_units

    @property
    def open_e4(self) -> int:
        """Return the first price in units of 0.0001. Raise ValueError if it has more places."""
        return _as_e4(self.open_units, self.scale)

    @property
    def high_e4(self) -> int:
        """Return the highest price in units of 0.0001. Raise ValueError if it has more places."""
        return _as_e4(self.high_units, self.scale)

    @property
    def low_e4(self) -> int:
        """Return the lowest price in units of 0.0001. Raise ValueError if it has more places."""
        return _as_e4(self.low_units, self.scale)

    @property
    def close_e4(self) -> int:
        """Return the last price in units of 0.0001. Raise ValueError if it has more places."""
        return _as_e4(self.close_units, self.scale)


class Bar(Event, array_like=True, frozen=True, gc=False):
    """The prices of one symbol in one span of time, with four decimal places.

    The most common event. It is encoded without a tag, as events were before there were other
    kinds.
    """

    open_units: int
    high_units: int
    low_units: int
    close_units: int
    volume: int  #: in lots of the instrument


class ScaledBar(Bar, array_like=True, frozen=True, gc=False, tag="bar"):
    """A bar whose prices have `scale` places."""

    scale: int  # type: ignore[misc]  # a constant of bars with four decimal places


class Trade(Event, array_like=True, frozen=True, gc=False, tag="trade"):
    """One trade on the market."""

    price_units: int
    quantity: int  #: in lots of the instrument
    scale: int = PRICE_PLACES  # type: ignore[misc]

    @property
    def volume(self) -> int:
        """Return the quantity."""
        return self.quantity

    @property
    def open_units(self) -> int:
        """Return the price."""
        return self.price_units

    high_units = low_units = close_units = open_units


class Quote(Event, array_like=True, frozen=True, gc=False, tag="quote"):
    """The best bid and ask. As a bar it opens and closes in the middle of the two."""

    bid_units: int
    ask_units: int
    bid_quantity: int = 0  #: in lots of the instrument; 0: not known
    ask_quantity: int = 0
    scale: int = PRICE_PLACES  # type: ignore[misc]

    def fill_units(self, side: Side) -> int:
        """Return the price at which a waiting market order is filled: a buyer pays the ask."""
        return self.ask_units if side == "buy" else self.bid_units

    def range_units(self, side: Side) -> tuple[int, int]:
        """Return the ask twice for a buyer, the bid twice for a seller."""
        at = self.fill_units(side)
        return at, at

    @property
    def open_units(self) -> int:
        """Return the middle of bid and ask, rounded down: the open of a quote taken for a bar."""
        return (self.bid_units + self.ask_units) // 2

    @property
    def high_units(self) -> int:
        """Return the ask, the high of a quote that is taken for a bar."""
        return self.ask_units

    @property
    def low_units(self) -> int:
        """Return the bid, the low of a quote that is taken for a bar."""
        return self.bid_units

    close_units = open_units


class Tick(Event, array_like=True, frozen=True, gc=False, tag="tick"):
    """The recorder's clock: time passes although the market is quiet. Its symbol is empty."""

    has_price: ClassVar[bool] = False


class Gap(Event, array_like=True, frozen=True, gc=False, tag="gap"):
    """The recorder knows that it has no data of `symbol` (empty: of all) for a span of time."""

    from_us: int
    to_us: int

    has_price: ClassVar[bool] = False


Tagged = ScaledBar | Trade | Quote | Tick | Gap

_encoder = msgspec.msgpack.Encoder()
_bars = msgspec.msgpack.Decoder(list[Bar])
_tagged = msgspec.msgpack.Decoder(list[Tagged])
_raw = msgspec.msgpack.Decoder(list[msgspec.Raw])
_bar = msgspec.msgpack.Decoder(Bar)
_one_tagged = msgspec.msgpack.Decoder(Tagged)


def make_bar(
    seq: int,
    symbol: str,
    time: int,
    released: int,
    prices: Sequence[int],
    volume: int,
    scale: int = PRICE_PLACES,
) -> Bar:
    """Return a bar. `prices`: open, high, low and close, in units of 10^-scale."""
    first, high, low, last = prices
    if scale == PRICE_PLACES:
        return Bar(seq, symbol, time, released, first, high, low, last, volume)
    return ScaledBar(seq, symbol, time, released, first, high, low, last, volume, scale)


def to_units(price: Decimal | str | int, scale: int) -> int:
    """Return `price` in units of 10^-scale. Raise ValueError if it has more places."""
    scaled = Decimal(price).scaleb(scale)
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"price {price} has more than {scale} decimal places")
    return whole


def _as_e4(units: int, scale: int) -> int:
    """Return a price of `units` of 10^-scale in units of 0.0001.

    Raise ValueError if it has more decimal places.
    """
    if scale == PRICE_PLACES:
        return units
    if scale < PRICE_PLACES:
        return units * 10 ** (PRICE_PLACES - scale)
    whole, rest = divmod(units, 10 ** (scale - PRICE_PLACES))
    if rest:
        raise ValueError(
            f"price {UNITS[scale] * units} has more than {PRICE_PLACES} decimal places: use"
            " close_units and scale, or close, instead of close_e4"
        )
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


def split_events(data: bytes) -> list[bytes]:
    """Return the encoded events of a batch, byte for byte."""
    return [bytes(one) for one in msgspec.msgpack.decode(data, type=list[msgspec.Raw])]


def decode_events(data: bytes) -> list[Event]:
    """Return the events of a batch. Raise msgspec.DecodeError if the bytes are invalid."""
    try:
        return cast("list[Event]", _bars.decode(data))
    except msgspec.ValidationError:
        pass  # not only bars with four decimal places
    try:
        return cast("list[Event]", _tagged.decode(data))
    except msgspec.ValidationError:  # bars, which have no tag, among others
        return [decode_event(event) for event in _raw.decode(data)]


def decode_event(data: bytes | msgspec.Raw) -> Event:
    """Return one event. Raise msgspec.DecodeError if the bytes are invalid."""
    begin = bytes(data[:2]) if isinstance(data, bytes) else bytes(memoryview(data)[:2])
    # An array of up to 15 elements has a header of one byte; a tag is a text of up to 31 bytes.
    is_tagged = len(begin) == 2 and begin[1] & 0xE0 == 0xA0
    return _one_tagged.decode(data) if is_tagged else _bar.decode(data)


def _array_header(length: int) -> bytes:
    """Return the msgpack header of an array, in the shortest form, as msgspec writes it."""
    if length < 16:
        return bytes((0x90 | length,))
    if length < 1 << 16:
        return b"\xdc" + length.to_bytes(2, "big")
    return b"\xdd" + length.to_bytes(4, "big")
