"""The state of one portfolio between two events, and its bytes.

State = account part (the runtime's) + strategy part (the strategy's own, plain msgpack values).
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal, TypeVar

import msgspec
import zstandard

from portfolios.runtime.errors import StateUnreadable
from portfolios.runtime.events import PRICE_PLACES, UNITS, Event
from portfolios.runtime.money import (
    FOUR_PLACES,
    ZERO,
    add,
    as_text,
    divide,
    multiply,
    price_text,
    quantize,
    subtract,
    to_four_places,
)
from portfolios.runtime.results import OrderKind, TimeInForce

#: A state that claims a larger size is refused: the bytes are not trusted.
MAX_STATE_BYTES = 64 * 1024 * 1024

#: Version of the state's format. 1: no event count, every refusal recorded.
#: 2: `Account.processed` and `Account.refusals`. 3: orders of other kinds than market, fees,
#: timers, metrics, limits that remember something. 4: of a strategy with `on_bars`. A state begins
#: with the lowest format and rises as something newer is used, so that a portfolio that has used
#: nothing new can still move to a node that is not upgraded yet. Only 4 is lowered again, to 3: by
#: a revision without `on_bars`, as nothing else needs it.
FORMAT = 4
COUNTING_FORMAT, HOOKS_FORMAT, BARS_FORMAT = 2, 3, 4

_encoder = msgspec.msgpack.Encoder()

T = TypeVar("T")

#: The fields of an event that the digest covers. Release times are covered by the rows.
_covered = attrgetter("seq", "symbol", "open_units", "high_units", "low_units", "close_units")


class Processed(msgspec.Struct):
    """Count and digest of the events that the portfolio processed, in their order.

    The digest is a CRC-32 (upper 32 bits) and an Adler-32 of the msgpack of the seq, the symbol and
    the four prices of each event. Both continue from their last value, so it does not matter how
    the events are cut into batches. Decision 0010 has the alternatives and what they cost.
    """

    since: int  #: events from this seq on are counted
    events: int = 0
    digest: int = 1  #: CRC-32 of nothing is 0, Adler-32 of nothing is 1

    def add(self, events: Sequence[Event]) -> None:
        """Count the events of one batch, and continue the digest with them."""
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
    #: Last price seen, in units of 10^-scale. The stored name is that of four places.
    mark_units: int = msgspec.field(name="mark_e4")
    scale: int = PRICE_PLACES

    @property
    def mark(self) -> Decimal:
        """Return the last price seen, with exactly `scale` places."""
        return UNITS[self.scale] * self.mark_units

    @property
    def average_price(self) -> Decimal:
        """Return cost per piece, with as many places as the price has, 4 at least."""
        average = divide(self.cost, self.quantity)
        return quantize(average, UNITS[max(self.scale, PRICE_PLACES)])

    @property
    def value(self) -> Decimal:
        """Return the value at the last price seen, 4 places; negative when short."""
        price = multiply(UNITS[self.scale], self.mark_units)
        return quantize(multiply(self.quantity, price), FOUR_PLACES)


class OpenOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """An order that waits for a fill, at the next events of its symbol."""

    seq: int
    index: int
    symbol: str
    side: Literal["buy", "sell"]
    quantity: Decimal
    price: Decimal  #: reference price at the decision
    kind: OrderKind = "market"
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = "gtc"
    tag: str = ""

    @property
    def expected_value(self) -> Decimal:
        """Return what its fill is expected to cost or bring, 4 places."""
        price = self.limit_price or self.stop_price or self.price
        return quantize(multiply(self.quantity, price), FOUR_PLACES)

    @property
    def signed_quantity(self) -> Decimal:
        """Return the quantity, negative for a sale."""
        return self.quantity if self.side == "buy" else -self.quantity


class Figures(msgspec.Struct):
    """Turnover and drawdowns of a portfolio, counted from event `since` on.

    A release of Ginkgo that does not know these figures drops them from the account, and a later
    release starts them anew, with a later `since`.
    """

    since: int
    turnover: Decimal = ZERO  #: value of all fills, bought and sold
    peak: Decimal = ZERO  #: highest equity at an equity point, and at `since`
    drawdown: Decimal = ZERO  #: below the peak, at the newest equity point
    largest_drawdown: Decimal = ZERO  #: so far

    def add_point(self, equity: Decimal) -> None:
        """Update peak and drawdowns by the equity at an equity point."""
        if equity >= self.peak:
            self.peak, self.drawdown = equity, ZERO
            return
        self.drawdown = subtract(self.peak, equity)
        if self.drawdown > self.largest_drawdown:
            self.largest_drawdown = self.drawdown

    @property
    def drawdown_pct(self) -> Decimal:
        """Return the drawdown in per cent of the peak, 4 places; 0 if the peak is not positive."""
        return to_four_places(100 * self.drawdown / self.peak) if self.peak > 0 else ZERO


class OrdersOfMinute(msgspec.Struct):
    """Number of orders placed in the newest minute of feed time that had one."""

    minute: int  #: since the epoch
    orders: int = 0


class Account(msgspec.Struct, omit_defaults=True):
    """The runtime's part: cash, positions, open orders, and the event count."""

    cash: Decimal
    starting_cash: Decimal
    realised: Decimal  #: profit of closed quantities, before fees
    positions: dict[str, Position]
    open_orders: list[OpenOrder]
    equity_step: int  #: the last 10 s step that has an equity point; -1 before the first
    processed: Processed | None = None  #: None: made by a version without an event count
    refusals: dict[str, str] = {}  #: "SIDE SYMBOL" → the last recorded reason
    figures: Figures | None = None  #: None: made by a version without figures
    fees: Decimal | None = None  #: paid so far; None: none
    minute: OrdersOfMinute | None = None  #: kept while orders per minute are limited
    halted: str = ""  #: why the limits stopped it after its last event; the next event clears it

    @property
    def equity(self) -> Decimal:
        """Return cash plus the value of positions at the last prices seen, 4 places."""
        equity = self.cash
        for position in self.positions.values():
            equity = add(equity, position.value)  # +: in a decimal context that strategies change
        return equity

    def symbols_in_use(self) -> frozenset[str]:
        """Return the symbols with a position or an open order."""
        return frozenset(self.positions).union(order.symbol for order in self.open_orders)


class StrategyPart(msgspec.Struct):
    """The strategy's part of a state, with its origin, so that another revision can adapt it."""

    strategy: str
    state_version: int
    parameters: dict[str, Any]
    data: dict[str, Any]


class BarSet(msgspec.Struct):
    """The bars of one time, until every symbol of the portfolio has one."""

    time: int  #: the newest time that a bar of the portfolio's symbols had
    bars: dict[str, bytes] = {}  #: of that time, by symbol, encoded; empty once all were there


class State(msgspec.Struct, omit_defaults=True):
    """Everything a portfolio needs to continue at last_seq + 1."""

    account: Account
    strategy: StrategyPart
    format: int = 1  #: states of format 1 do not carry the field
    timers: list[int] = []  #: of the strategy, µs since the epoch, earliest first
    metrics: dict[str, float] = {}  #: of the strategy, as set last
    bar_set: BarSet | None = None  #: None: the strategy has no `on_bars`, or has had no bar

    def raise_format_to(self, number: int) -> None:
        """Set the format to `number`, unless it is higher: older releases then refuse the state."""
        self.format = max(self.format, number)

    def forget_bars(self) -> None:
        """Remove the bars that wait: the strategy has no `on_bars`."""
        self.bar_set = None
        if self.format == BARS_FORMAT:
            self.format = HOOKS_FORMAT

    def count_from(self, seq: int) -> None:
        """Start the event count and the figures at `seq`, unless they have started."""
        account = self.account
        if account.processed is None:
            account.processed = Processed(seq)
            self.raise_format_to(COUNTING_FORMAT)
        if account.figures is None:
            account.figures = Figures(seq, peak=account.equity)

    def forget_count(self) -> None:
        """Make this a state of format 1, as older versions wrote it: without what they lacked."""
        self.account.processed = self.account.figures = None
        self.account.refusals.clear()
        self.format = 1


_decoder = msgspec.msgpack.Decoder(State)


class StateOutline(msgspec.Struct):
    """A state without the strategy's part, which may be large."""

    account: Account
    format: int = 1
    metrics: dict[str, float] = {}


class _RawOutline(msgspec.Struct):
    """A `StateOutline` whose parts are not decoded yet: they may be too large."""

    account: msgspec.Raw
    format: int = 1
    metrics: msgspec.Raw = msgspec.Raw(b"\x80")


_outline_decoder = msgspec.msgpack.Decoder(_RawOutline)
_account_decoder = msgspec.msgpack.Decoder(Account)
_metrics_decoder = msgspec.msgpack.Decoder(dict[str, float])
#: Limit of a state's outline. Ten thousand positions and orders need half of it. Without a limit, a
#: node may store 80 kB that unpack to 300,000 positions; each read would delay every other request
#: by half a second.
MAX_OUTLINE_BYTES = 2_000_000
NOT_A_STATE = "the checkpoint is not a valid state ({}); restore the database from its backup"


def pack_state(state: State) -> bytes:
    """Return the state as msgpack. Dicts keep their order: strategies may rely on it."""
    return _encoder.encode(state)


def state_compressor() -> Callable[[bytes], bytes]:
    """Return a function that compresses packed bytes by zstd level 1 and includes their size.

    Making the function takes longer than compressing a small state, so each engine keeps one. Two
    threads must not call the same function at once.
    """
    return zstandard.ZstdCompressor(level=1, write_content_size=True).compress


def compress_state(packed: bytes) -> bytes:
    """Return packed bytes compressed by zstd level 1."""
    return state_compressor()(packed)


def encode_state(state: State) -> bytes:
    """Return the state as msgpack compressed by zstd level 1. Equal states give equal bytes."""
    return compress_state(pack_state(state))


def decode_state(data: bytes) -> State:
    """Return the state. Raise StateUnreadable if the bytes are invalid."""
    state = _decode(_decoder, data)
    _check_format(state.format)
    return state


def decode_outline(data: bytes) -> StateOutline:
    """Return account and metrics of a state; the strategy's part is skipped, which takes no time.

    Raise StateUnreadable.
    """
    raw = _decode(_outline_decoder, data)
    _check_format(raw.format)
    size = memoryview(raw.account).nbytes + memoryview(raw.metrics).nbytes
    if size > MAX_OUTLINE_BYTES:
        raise StateUnreadable(
            f"its account and metrics have {size:,} bytes; pages show up to {MAX_OUTLINE_BYTES:,}"
        )
    try:
        account = _account_decoder.decode(raw.account)
        return StateOutline(account, raw.format, _metrics_decoder.decode(raw.metrics))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise StateUnreadable(NOT_A_STATE.format(error)) from error


def _decode(decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
    """Decompress and decode bytes that may be anything. Raise StateUnreadable."""
    try:
        return decoder.decode(decompress_state(data))
    # A node may store any bytes: text that is not UTF-8, nesting without end.
    except (zstandard.ZstdError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise StateUnreadable(NOT_A_STATE.format(error)) from error


def decompress_state(data: bytes) -> bytes:
    """Return the packed bytes of a state. Raise ZstdError or ValueError if they are invalid."""
    size = zstandard.frame_content_size(data)
    if size < 0:
        raise ValueError("its header states no size")
    if size > MAX_STATE_BYTES:
        raise ValueError(f"its header states a size of {size:,} bytes; limit {MAX_STATE_BYTES:,}")
    return _decompressor().decompress(data)


def _decompressor() -> zstandard.ZstdDecompressor:
    """Return this thread's decompressor: making one takes five times as long as using it."""
    try:
        return _of_thread.decompressor
    except AttributeError:
        made = _of_thread.decompressor = zstandard.ZstdDecompressor()
        return made


_of_thread = threading.local()


def _check_format(number: int) -> None:
    """Raise StateUnreadable if a state of this format cannot be read."""
    if number > FORMAT:
        raise StateUnreadable(
            f"the checkpoint has state format {number}, and Ginkgo on this node reads formats"
            f" up to {FORMAT}: upgrade this node, or run the portfolio on a node that is upgraded"
        )


def account_view(state: State | StateOutline) -> dict[str, Any]:
    """Return the account for display: amounts as text with four places, prices with their own.

    {cash, equity, pnl, realised, unrealised, fees, exposure, gross_exposure, turnover, drawdown,
    drawdown_pct, largest_drawdown, figures_since, positions: [{symbol, quantity, average_price,
    price, unrealised}], open_orders: […]}. pnl = realised + unrealised - fees. Turnover and
    drawdowns are counted from the event `figures_since` on.
    """
    account = state.account
    values = [position.value for position in account.positions.values()]
    figures = account.figures or Figures(0, peak=account.equity)
    return {
        "cash": as_text(account.cash),
        "equity": as_text(account.equity),
        "pnl": as_text(account.equity - account.starting_cash),
        "realised": as_text(account.realised),
        "unrealised": as_text(sum((p.value - p.cost for p in account.positions.values()), ZERO)),
        "fees": as_text(account.fees or ZERO),
        "exposure": as_text(sum(values, ZERO)),
        "gross_exposure": as_text(sum(map(abs, values), ZERO)),
        "turnover": as_text(figures.turnover),
        "drawdown": as_text(figures.drawdown),
        "drawdown_pct": as_text(figures.drawdown_pct),
        "largest_drawdown": as_text(figures.largest_drawdown),
        "figures_since": figures.since,
        "open_orders": [_open_order_view(order) for order in account.open_orders],
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


def _open_order_view(order: OpenOrder) -> dict[str, Any]:
    """Return an open order for display: see `account_view`."""
    limit, stop = order.limit_price, order.stop_price
    return {
        "seq": order.seq,
        "index": order.index,
        "symbol": order.symbol,
        "side": order.side,
        "quantity": as_text(order.quantity),
        "kind": order.kind,
        "limit_price": None if limit is None else price_text(limit),
        "stop_price": None if stop is None else price_text(stop),
        "time_in_force": order.time_in_force,
        "tag": order.tag,
    }


def strategy_view(state: State) -> dict[str, Any]:
    """Return the strategy's part of the state as JSON values; bytes become hex text."""
    shown: dict[str, Any] = _to_json_value(state.strategy.data)
    return shown


def _to_json_value(value: Any) -> Any:
    """Return a plain msgpack value as JSON can hold it, with bytes as hex and keys as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _to_json_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_json_value(item) for item in value]
    return value
