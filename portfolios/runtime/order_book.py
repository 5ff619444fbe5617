"""The orders of one portfolio: decided, then filled or ended at events of their symbol."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from portfolios.runtime.accounting import apply_fill
from portfolios.runtime.errors import StrategyFailed
from portfolios.runtime.events import Event
from portfolios.runtime.limits import count_order, rate_refusal, refusal
from portfolios.runtime.money import FOUR_PLACES, ZERO, to_four_places
from portfolios.runtime.paper_broker import NOT_FILLED, PriceRange, fee_of, fill_price
from portfolios.runtime.refusals import forget_refusal, remember_refusal
from portfolios.runtime.results import (
    BatchResult,
    EndStatus,
    FillRow,
    OrderEndRow,
    OrderRow,
    OrderStatus,
    Side,
)
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import HOOKS_FORMAT, OpenOrder, State
from portfolios.strategies.base import (
    MAX_QUANTITY,
    CancelIntent,
    Intent,
    OrderIntent,
    PlacedOrder,
    ReplaceIntent,
    Report,
)

SUPPRESSED = "decided on a stale event"
MAX_RESTING = 1_000  #: open limit and stop orders: they may never fill, and are part of the state
MAX_TAG = 32  #: characters
MAX_PRICE = Decimal(10) ** 12  #: of a limit or stop order
EIGHT_PLACES = Decimal("0.00000001")
MINUTE_US = 60_000_000

INTENTS_ON_OPEN_ORDERS = (CancelIntent, ReplaceIntent)
#: The values after the quantity of a market order without a tag.
MARKET_WITHOUT_TAG = tuple(OrderIntent._field_defaults.values())
#: What a limit and a stop order need; the other price is refused.
PRICE_OF_KIND = {"market": None, "limit": "limit_price", "stop": "stop_price"}


class OrderBook:
    """The open orders of an account. Called within the decimal context of money."""

    def __init__(self, spec: Spec, state: State, *, is_reporting: bool) -> None:
        """Continue with the open orders of `state`.

        `is_reporting`: the strategy wants a report of what becomes of each order.
        """
        self._spec = spec
        self._state = state
        self._account = state.account
        self._traded = spec.symbol_set()
        self._is_reporting = is_reporting
        self.symbols: set[str] = {order.symbol for order in state.account.open_orders}
        """Symbols with an open order. Engine and context hold this set, so it is never replaced."""
        self.reports: deque[Report] = deque()  #: not delivered yet
        self.bars: Mapping[str, Event] = {}  #: by symbol, while a strategy decides on all of them
        self._newest_seq = self._order_count = 0  # event of the newest order, and its orders so far

    # --- at an event -------------------------------------------------------------------------

    def work(self, event: Event, result: BatchResult) -> None:
        """Fill the open orders of the event's symbol as far as its prices allow; end expired ones.

        They are taken in the order of their decisions.
        """
        orders = self._account.open_orders
        # An order that a timer placed at this very event waits for the next one: the open of a bar
        # was before the timer.
        workable = [o for o in orders if o.symbol == event.symbol and o.seq < event.seq]
        if not workable:
            return
        ended: set[tuple[int, int]] = set()
        slips = self._spec.broker.slips
        for order in workable:
            price: Decimal | None
            if order.kind == "market" and not slips:  # the most common order needs no range
                price = event.price(event.fill_units(order.side))
            else:
                price = fill_price(order, _price_range(event, order.side), self._spec.broker)
            if price is not None:
                self._fill(order, price, event, result)
            elif order.time_in_force == "ioc":
                self._end(order, "expired", NOT_FILLED, event.seq, result)
            else:
                continue
            ended.add((order.seq, order.index))
        if ended:
            self._set_open([order for order in orders if (order.seq, order.index) not in ended])

    def _fill(self, order: OpenOrder, price: Decimal, event: Event, result: BatchResult) -> None:
        """Book and record a fill of the whole order at `price`; the caller removes the order."""
        last = result.fills[-1] if result.fills else None
        index = last.index + 1 if last is not None and last.fill_seq == event.seq else 0
        fee = fee_of(self._spec.broker, order.quantity, price)
        signed, mark = order.signed_quantity, event.close_units
        apply_fill(self._account, order.symbol, signed, price, mark, event.scale, fee)
        row = FillRow(
            order.seq, order.index, event.seq, index, order.symbol, order.side, order.quantity,
            price, event.released, fee,
        )  # fmt: skip
        result.fills.append(row)
        self._report("filled", order, price=price, fee=fee)

    def _end(
        self, order: OpenOrder, status: EndStatus, reason: str, seq: int, result: BatchResult
    ) -> None:
        """Record the end of an order; the caller removes it."""
        result.ended.append(OrderEndRow(order.seq, order.index, seq, status, reason))
        self._report(status, order, reason=reason)

    def _set_open(self, orders: list[OpenOrder]) -> None:
        """Replace the open orders, and change `symbols` in place."""
        self._account.open_orders = orders
        self.symbols.clear()
        self.symbols.update(order.symbol for order in orders)

    def _report(
        self,
        kind: Literal["accepted", "filled", "rejected", "cancelled", "expired"],
        order: OpenOrder | OrderRow,
        **more: Any,
    ) -> None:
        """Queue a report for the strategy, if it wants reports."""
        if self._is_reporting:
            report = Report(
                kind, order.seq, order.index, order.symbol, order.side, order.quantity, order.tag,
                **more,
            )  # fmt: skip
            self.reports.append(report)

    # --- decisions ---------------------------------------------------------------------------

    def carry_out(self, event: Event, intents: Sequence[Intent], result: BatchResult) -> None:
        """Carry out intents, and add the outcomes. Raise StrategyFailed if one is invalid."""
        for given in intents:
            try:
                intent = _validate(given)
            except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
                raise StrategyFailed(self._spec.strategy, event.seq, error) from error
            if isinstance(intent, CancelIntent):
                self._cancel(intent.order, event, result)
            elif isinstance(intent, ReplaceIntent):
                self._replace(intent, event, result)
            else:
                self._place(intent, event, result)

    def _next_index(self, seq: int) -> int:
        """Return the index of the next order that is decided at event `seq`."""
        if seq != self._newest_seq:
            self._newest_seq, self._order_count = seq, 0
        self._order_count += 1
        return self._order_count - 1

    def _find_open(self, wanted: PlacedOrder) -> OpenOrder | None:
        for order in self._account.open_orders:
            if order.seq == wanted.seq and order.index == wanted.index:
                return order
        return None

    def _cancel(self, wanted: PlacedOrder, event: Event, result: BatchResult) -> None:
        """Cancel an open order. Do nothing at a stale event, or if the order is not open."""
        order = self._find_open(wanted)
        if order is None or result.suppress:
            return
        self._end(order, "cancelled", "", event.seq, result)
        self._set_open([other for other in self._account.open_orders if other is not order])

    def _replace(self, intent: ReplaceIntent, event: Event, result: BatchResult) -> None:
        """Replace an open order by a changed one; keep it if the changed one is refused."""
        order = self._find_open(intent.order)
        if order is None:
            return
        changed = OrderIntent(
            order.symbol,
            order.side,
            order.quantity if intent.quantity is None else intent.quantity,
            order.kind,
            order.limit_price if intent.limit_price is None else intent.limit_price,
            order.stop_price if intent.stop_price is None else intent.stop_price,
            order.time_in_force,
            order.tag,
        )
        try:
            wanted = _validate_order(changed)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise StrategyFailed(self._spec.strategy, event.seq, error) from error
        before = self._account.open_orders
        # The limits of the new order must not count the old one too.
        self._set_open([other for other in before if other is not order])
        index = self._place(wanted, event, result)
        if index is None:
            self._set_open(before)
            return
        reason = f"replaced by order {index} of seq {event.seq}"
        self._end(order, "cancelled", reason, event.seq, result)

    def _place(self, intent: OrderIntent, event: Event, result: BatchResult) -> int | None:
        """Record the order of an intent: open, suppressed or refused.

        Return its index among the orders decided at this event, or None if it is not open. A
        refusal that repeats the last one of its symbol and side, numbers aside, is only counted.
        """
        symbol, side, quantity = intent.symbol, intent.side, intent.quantity
        index = self._next_index(event.seq)
        price = self._reference_price(event, symbol)
        reason = self._refusal(intent, price, event)
        status: OrderStatus = "refused" if reason else "open"
        if result.suppress:
            status, reason = "suppressed", SUPPRESSED
        row = OrderRow(
            event.seq, index, symbol, side, quantity, price or ZERO, status, reason, event.released,
            intent.kind, intent.limit_price, intent.stop_price, intent.time_in_force, intent.tag,
        )  # fmt: skip
        if status == "open":
            self._add(row, event)
            result.orders.append(row)
            self._report("accepted", row)
            return index
        refusals = self._account.refusals
        if status == "refused" and not remember_refusal(refusals, symbol, side, reason or ""):
            result.refused_again += 1
        else:
            result.orders.append(row)
        self._report("rejected", row, reason=reason or "")
        return None

    def _add(self, row: OrderRow, event: Event) -> None:
        """Open the order of a row."""
        order = OpenOrder(
            row.seq, row.index, row.symbol, row.side, row.quantity, row.price, row.kind,
            row.limit_price, row.stop_price, row.time_in_force, row.tag,
        )  # fmt: skip
        if row.kind != "market" or row.tag:  # older releases do not know these orders
            self._state.raise_format_to(HOOKS_FORMAT)
        self._account.open_orders.append(order)
        self.symbols.add(row.symbol)
        forget_refusal(self._account.refusals, row.symbol, row.side)
        count_order(self._spec.limits, self._account, event.released // MINUTE_US)

    def _reference_price(self, event: Event, symbol: str) -> Decimal | None:
        """Return the last price of `symbol` from this event, the position or the bar; else None."""
        if symbol == event.symbol:
            return event.close
        position = self._account.positions.get(symbol)
        if position is not None:
            return position.mark
        bar = self.bars.get(symbol)
        return None if bar is None else bar.close

    def _refusal(self, intent: OrderIntent, price: Decimal | None, event: Event) -> str | None:
        """Return why the order of an intent is refused, or None."""
        symbol, account = intent.symbol, self._account
        if self._traded is not None and symbol not in self._traded:
            return f"{symbol} is not one of the portfolio's symbols"
        if price is None:
            return f"no price of {symbol} is known at this event"
        if intent.kind != "market":
            resting = sum(order.kind != "market" for order in account.open_orders)
            if resting >= MAX_RESTING:
                return f"{MAX_RESTING} limit and stop orders are open, the most there may be"
        signed = intent.quantity if intent.side == "buy" else -intent.quantity
        expected = intent.limit_price or intent.stop_price or price
        limits = self._spec.limits
        return refusal(limits, account, symbol, signed, expected) or rate_refusal(
            limits, account, event.released // MINUTE_US
        )


def _price_range(event: Event, side: Side) -> PriceRange:
    """Return the prices at which an order of `side` can be filled at an event."""
    low, high = event.range_units(side)
    first = event.price(event.fill_units(side))
    return PriceRange(first, event.price(high), event.price(low))


def _validate(intent: Any) -> Intent:
    """Return the intent with its numbers rounded. Raise TypeError, ValueError or AttributeError."""
    if isinstance(intent, INTENTS_ON_OPEN_ORDERS):
        if not (isinstance(intent.order.seq, int) and isinstance(intent.order.index, int)):
            raise TypeError(
                f"{intent!r} names no order: its `order` must be one of ctx.open_orders or the "
                "Report given to on_report"
            )
        return intent
    return _validate_order(OrderIntent(*intent))


def _validate_order(intent: OrderIntent) -> OrderIntent:
    """Return the order with its numbers rounded. Raise ValueError if a value is not allowed."""
    if intent.side not in ("buy", "sell") or not isinstance(intent.symbol, str):
        raise ValueError(f"{intent!r} is not a valid order: side is buy or sell, symbol a text")
    quantity = _number_of(intent, "quantity", intent.quantity, MAX_QUANTITY, to_four_places)
    if intent[3:] == MARKET_WITHOUT_TAG:  # kind, prices, expiry and tag of the most common order
        return OrderIntent(intent.symbol, intent.side, quantity)
    return _validate_kind(intent)._replace(quantity=quantity)


def _validate_kind(intent: OrderIntent) -> OrderIntent:
    """Return the intent with its prices rounded. Raise ValueError if they do not fit its kind."""
    if intent.kind not in PRICE_OF_KIND:
        raise ValueError(f"{intent!r} is not a valid order: kind is market, limit or stop")
    if intent.time_in_force not in ("gtc", "ioc"):
        raise ValueError(f"{intent!r} is not a valid order: time_in_force is gtc or ioc")
    tag = intent.tag
    if not isinstance(tag, str) or len(tag) > MAX_TAG or not tag.isprintable():
        raise ValueError(
            f"{intent!r} is not a valid order: tag has up to {MAX_TAG} printable characters"
        )
    needed = PRICE_OF_KIND[intent.kind]
    for name in ("limit_price", "stop_price"):
        is_given = getattr(intent, name) is not None
        if is_given != (name == needed):
            rule = f"needs {needed} and takes no other price" if needed else "takes no price"
            raise ValueError(f"{intent!r} is not a valid order: kind {intent.kind} {rule}")
    return intent._replace(
        limit_price=_validate_price(intent, intent.limit_price),
        stop_price=_validate_price(intent, intent.stop_price),
    )


def _number_of(
    intent: OrderIntent,
    name: str,
    given: Any,
    most: Decimal,
    rounded: Callable[[Decimal], Decimal] = Decimal,
) -> Decimal:
    """Return the value `given` for a field of an order, rounded by `rounded`.

    Raise ValueError unless it is over 0 after that, and at most `most`.
    """
    try:
        number = rounded(Decimal(given))
        if number.is_finite() and 0 < number <= most:
            return number
    except (ArithmeticError, TypeError, ValueError):
        pass
    raise ValueError(
        f"{intent!r} is not a valid order: its {name} must be a number over 0, at most"
        f" {most}, as a Decimal, int, float or text"
    )


def _validate_price(intent: OrderIntent, given: Decimal | None) -> Decimal | None:
    """Return the price with four places, or with eight if it needs them."""
    if given is None:
        return None
    price = _number_of(intent, "price", given, MAX_PRICE)
    for places in (FOUR_PLACES, EIGHT_PLACES):
        rounded = price.quantize(places)
        if rounded == price:
            return rounded
    raise ValueError(f"{intent!r} is not a valid order: {price} has over eight decimal places")
