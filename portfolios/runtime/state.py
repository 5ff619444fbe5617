"""The state of one portfolio between two events, and its bytes.

State = account part (the runtime's) + strategy part (the strategy's own, plain msgpack values).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal

import msgspec
import zstandard

from portfolios.runtime.errors import StateUnreadable
from portfolios.runtime.events import PRICE_PLACES, UNITS, Event
from portfolios.runtime.money import CONTEXT, ZERO, as_text, price_text, quantise

#: A state that claims a larger size is refused: the bytes are not trusted.
MAX_STATE_BYTES = 64 * 1024 * 1024

#: Version of the state's format. 1: no event count, every refusal recorded.
#: 2: `Account.processed` and `Account.refusals`.
FORMAT = 2

_encoder = msgspec.msgpack.Encoder()

#: The fields of an event that the digest covers. Release times are covered by the rows.
_covered = attrgetter("seq", "symbol", "open_units", "high_units", "low_units", "close_units")


class Processed(msgspec.Struct):
    """Count and digest of the events that the portfolio processed, in their order.

    The digest is a CRC-32 (upper 32 bits) and an Adler-32 of the msgpack of each covered event.
    Both continue from their last value, so it does not matter how the events are cut into batches.
    Decision 0010 has the alternatives and what they cost.
    """

    since: int  #: events from this seq on are counted
    events: int = 0
    digest: int = 1  #: CRC-32 of nothing is 0, Adler-32 of nothing is 1

    def add(self, events: Sequence[Event]) -> None:
        """Add the events of one batch."""
        packed = _encoder.encode(list(map(_covered, events)))
        # The header of the list depends on the length of the batch.
        header = 1 if len(events) < 16 else 3 if len(events) < 1 << 16 else 5
        data = memoryview(packed)[header:]
        crc, adler = self.digest >> 32, self.digest & 0xFFFFFFFF
        self.digest = zlib.crc32(data, crc) << 32 | zlib.adler32(data, adler)
        self.events += len(events)

    @property
    def digest_text(self) -> str:
        """Return the digest as 16 hexadecimal digits."""
        return f"{self.digest:016x}"


class Position(msgspec.Struct, omit_defaults=True):
    """The position in one symbol. Stores `cost`, not an average, to avoid accumulated rounding."""

    quantity: Decimal  #: negative when short; a position of 0 is removed
    cost: Decimal  #: cost of the quantity, 4 places, with its sign
    #: Last price seen, an integer of 10^-scale. The stored name is that of four places.
    mark_units: int = msgspec.field(name="mark_e4")
    scale: int = PRICE_PLACES

    @property
    def mark(self) -> Decimal:
        """Return the last price seen, with exactly `scale` places."""
        return UNITS[self.scale] * self.mark_units

    @property
    def average_price(self) -> Decimal:
        """Return cost per piece, with as many places as the price has, 4 at least."""
        average = CONTEXT.divide(self.cost, self.quantity)
        return average.quantize(UNITS[max(self.scale, PRICE_PLACES)], context=CONTEXT)

    @property
    def value(self) -> Decimal:
        """Return the value at the last price seen, 4 places; negative when short."""
        return quantise(self.quantity * (UNITS[self.scale] * self.mark_units))


class OpenOrder(msgspec.Struct, frozen=True):
    """An order that waits for the next event of its symbol."""

    seq: int
    index: int
    symbol: str
    side: Literal["buy", "sell"]
    quantity: Decimal
    price: Decimal  #: reference price at the decision

    @property
    def signed_quantity(self) -> Decimal:
        """Return the quantity, negative for a sale."""
        return self.quantity if self.side == "buy" else -self.quantity


class Account(msgspec.Struct, omit_defaults=True):
    """The runtime's part: cash, positions, open orders, and the event count."""

    cash: Decimal
    starting_cash: Decimal
    realised: Decimal  #: profit of closed quantities; cash + costs = starting_cash + realised
    positions: dict[str, Position]
    open_orders: list[OpenOrder]
    equity_step: int  #: the last 10 s step that has an equity point; -1 before the first
    processed: Processed | None = None  #: None: made by a version without an event count
    refusals: dict[str, str] = {}  #: "SIDE SYMBOL" → the last recorded reason

    @property
    def equity(self) -> Decimal:
        """Return cash plus the value of positions at the last prices seen, 4 places."""
        return sum((position.value for position in self.positions.values()), self.cash)

    def symbols_in_use(self) -> frozenset[str]:
        """Return the symbols with a position or an open order."""
        return frozenset(self.positions).union(order.symbol for order in self.open_orders)


class StrategyPart(msgspec.Struct):
    """The strategy's part, with its origin, so that another revision can adapt it."""

    strategy: str
    state_version: int
    parameters: dict[str, Any]
    data: dict[str, Any]


class State(msgspec.Struct, omit_defaults=True):
    """Everything a portfolio needs to continue at last_seq + 1."""

    account: Account
    strategy: StrategyPart
    format: int = 1  #: states of format 1 do not carry the field

    def count_from(self, seq: int) -> None:
        """Start the event count at `seq`, unless it has started."""
        if self.account.processed is None:
            self.account.processed = Processed(seq)
            self.format = FORMAT

    def forget_count(self) -> None:
        """Remove the event count and refusals, which older versions did not have."""
        self.account.processed = None
        self.account.refusals.clear()
        self.format = 1


_decoder = msgspec.msgpack.Decoder(State)


def pack_state(state: State) -> bytes:
    """Return the state as msgpack. Dicts keep their order: strategies may rely on it."""
    return _encoder.encode(state)


def compress_state(packed: bytes) -> bytes:
    """Return packed bytes under zstd level 1, with their size inside."""
    return zstandard.ZstdCompressor(level=1, write_content_size=True).compress(packed)


def encode_state(state: State) -> bytes:
    """Return the state as msgpack under zstd level 1; the same state gives the same bytes."""
    return compress_state(pack_state(state))


def decode_state(data: bytes) -> State:
    """Return the state. Raise StateUnreadable if the bytes are invalid."""
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= MAX_STATE_BYTES:
            raise StateUnreadable(f"a state of {size} bytes is refused, limit {MAX_STATE_BYTES}")
        state = _decoder.decode(zstandard.ZstdDecompressor().decompress(data))
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise StateUnreadable(f"the checkpoint is not a valid state: {error}") from error
    if state.format > FORMAT:
        raise StateUnreadable(
            f"the checkpoint has state format {state.format}, and Ginkgo on this node reads formats"
            f" up to {FORMAT}: upgrade this node, or run the portfolio on a node that is upgraded"
        )
    return state


def account_view(state: State) -> dict[str, Any]:
    """Return the account for display, every amount as text with four places.

    {cash, equity, pnl, realised, positions: [{symbol, quantity, average_price, price, unrealised}]}
    """
    account = state.account
    return {
        "cash": as_text(account.cash),
        "equity": as_text(account.equity),
        "pnl": as_text(account.equity - account.starting_cash),
        "realised": as_text(account.realised),
        "positions": [
            {
                "symbol": symbol,
                "quantity": as_text(position.quantity),
                "average_price": price_text(position.average_price),
                "price": price_text(position.mark),
                "unrealised": as_text(position.value - position.cost),
            }
            for symbol, position in sorted(account.positions.items())
        ],
    }


def empty_account_view(starting_cash: Decimal) -> dict[str, Any]:
    """Return the `account_view` of a portfolio without a state."""
    cash = as_text(starting_cash)
    return {
        "cash": cash,
        "equity": cash,
        "pnl": as_text(ZERO),
        "realised": as_text(ZERO),
        "positions": [],
    }


def strategy_view(state: State) -> dict[str, Any]:
    """Return the strategy's part as JSON values; bytes are shown as hex."""
    shown: dict[str, Any] = _shown(state.strategy.data)
    return shown


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value
