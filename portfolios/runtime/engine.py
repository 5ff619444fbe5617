"""The engine of one portfolio. Per event, in this order: fills, mark, equity point, decision."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Any

from portfolios.artifacts.load import find_strategy
from portfolios.runtime.accounting import apply_fill
from portfolios.runtime.context import EventContext
from portfolios.runtime.errors import SeqMismatch, StrategyFailed, VersionDiffers
from portfolios.runtime.events import Event
from portfolios.runtime.limits import refusal
from portfolios.runtime.money import CONTEXT, ZERO, quantise
from portfolios.runtime.refusals import forget_refusal, is_new_refusal
from portfolios.runtime.results import BatchResult, EquityRow, FillRow, OrderRow, OrderStatus
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import (
    Account,
    OpenOrder,
    State,
    StrategyPart,
    compress_state,
    decode_state,
    pack_state,
)
from portfolios.strategies.base import MAX_QUANTITY, OrderIntent, Strategy

EQUITY_STEP_US = 10_000_000
SUPPRESSED = "decided on a stale event"


class PortfolioEngine:
    """Runs one portfolio under one spec. After an exception, discard the engine."""

    def __init__(self, spec: Spec, strategy: Strategy, state: State, last_seq: int) -> None:
        """Use `fresh` or `restore`."""
        self.spec = spec
        self.state = state
        self.last_seq = last_seq
        self._strategy = strategy
        self._account = state.account
        self._context = EventContext(spec, state.account)
        self._given: bytes | None = None  # the packed state that the caller already has

    @classmethod
    def fresh(cls, spec: Spec) -> PortfolioEngine:
        """Return an engine at first_seq - 1 with the starting cash and nothing else.

        Raise StrategyFailed if the strategy cannot be loaded, UnknownStrategy or VersionDiffers if
        it is not installed in the spec's version.
        """
        strategy = _load(spec)
        cash = quantise(spec.starting_cash)
        account = Account(cash, cash, ZERO, {}, [], -1)
        state = State(account, _empty_part(spec, strategy))
        state.count_from(spec.first_seq)
        return cls(spec, strategy, state, spec.first_seq - 1)

    @classmethod
    def restore(cls, spec: Spec, state: bytes, last_seq: int) -> PortfolioEngine:
        """Return an engine that continues after `last_seq`.

        If strategy, state version or parameters differ from those that made the state, the new
        strategy's `adapt` converts it; if that returns None, its part starts empty. Raise
        StateUnreadable or what `fresh` raises.
        """
        strategy = _load(spec)
        restored = decode_state(state)
        old = restored.strategy
        unchanged = (old.strategy, old.state_version, old.parameters) == (
            spec.strategy,
            strategy.state_version,
            spec.parameters,
        )
        if not unchanged:
            restored.strategy = _adapted_part(spec, strategy, old)
        engine = cls(spec, strategy, restored, last_seq)
        if unchanged:
            engine._given = pack_state(restored)
        restored.count_from(last_seq + 1)  # the state may have no event count
        return engine

    @property
    def extra_symbols(self) -> frozenset[str]:
        """Return the symbols with a position or an open order that the spec does not list.

        The set only shrinks while one spec runs, since an order for such a symbol is refused.
        """
        symbols = self._context.symbols
        return frozenset() if symbols is None else self._account.symbols_in_use() - symbols

    @property
    def symbols(self) -> frozenset[str] | None:
        """Return the symbols whose events `run` needs, or None for every symbol of the feed."""
        symbols = self._context.symbols
        return None if symbols is None else symbols | self.extra_symbols

    def run(
        self, events: Sequence[Event], from_seq: int, to_seq: int, suppress: bool = False
    ) -> BatchResult:
        """Return what the events of (from_seq, to_seq] produced.

        `events` contains at least those of `symbols`. Events of other symbols change nothing, so
        the caller may keep using the set it got at the start. For a symbol that the spec does not
        list, orders are filled and the position is marked, but the strategy is not called. With
        `suppress`, decisions are recorded and not placed; fills continue.

        Raise StrategyFailed or SeqMismatch, after which the engine must be discarded.
        """
        if from_seq != self.last_seq or to_seq < from_seq:
            raise SeqMismatch(
                f"a batch of ({from_seq}, {to_seq}] was given to {self.spec.portfolio},"
                f" which is at seq {self.last_seq}"
            )
        result = BatchResult(from_seq, to_seq, None, [], [], [], suppress)
        with localcontext(CONTEXT):  # a strategy's change of the context ends with the batch
            self._run_events(events, result)
            self.last_seq = to_seq
            if events or self._given is None:
                result.state = self._changed_state()
        return result

    def _run_events(self, events: Sequence[Event], result: BatchResult) -> None:
        account, context = self._account, self._context
        positions, data = account.positions, self.state.strategy.data
        on_event, symbols = self._strategy.on_event, context.symbols
        sees_every_event = self._strategy.sees_every_event
        unused: set[int] = set()
        for event in events:
            outside_spec = symbols is not None and event.symbol not in symbols
            if outside_spec and event.symbol not in account.symbols_in_use():
                unused.add(event.seq)
                continue
            if account.open_orders and event.has_price:
                with localcontext(CONTEXT):  # a strategy may have changed the context
                    self._fill(event, result.fills)
            position = positions.get(event.symbol)
            if position is not None and event.has_price:
                position.mark_units = event.close_units
            step = event.released // EQUITY_STEP_US
            if step > account.equity_step:
                account.equity_step = step
                with localcontext(CONTEXT):
                    result.equity.append(EquityRow(event.seq, event.released, account.equity))
            if outside_spec or not (event.has_price or sees_every_event):
                continue
            context.seq = event.seq
            try:
                answer = on_event(context, data, event)
                if not answer:
                    continue
                intents = tuple(answer)
            except BaseException as error:
                raise StrategyFailed(self.spec.strategy, event.seq, error) from error
            with localcontext(CONTEXT):
                for index, intent in enumerate(intents):
                    order = self._decide(event, index, intent, result.suppress)
                    if order is None:
                        result.refused_again += 1
                    else:
                        result.orders.append(order)
        if unused:
            events = [event for event in events if event.seq not in unused]
        if events and account.processed is not None:
            account.processed.add(events)

    def _fill(self, event: Event, fills: list[FillRow]) -> None:
        """Fill every open order of the event's symbol at its first price."""
        due = [order for order in self._account.open_orders if order.symbol == event.symbol]
        if not due:
            return
        waiting = [order for order in self._account.open_orders if order.symbol != event.symbol]
        self._account.open_orders = waiting
        for index, order in enumerate(due):
            price = event.price(event.fill_units(order.side))
            apply_fill(
                self._account,
                order.symbol,
                order.signed_quantity,
                price,
                event.close_units,
                event.scale,
            )
            fills.append(
                FillRow(
                    order.seq,
                    order.index,
                    event.seq,
                    index,
                    order.symbol,
                    order.side,
                    order.quantity,
                    price,
                    event.released,
                )
            )

    def _decide(
        self, event: Event, index: int, intent: OrderIntent, suppress: bool
    ) -> OrderRow | None:
        """Return the order for an intent: open, suppressed or refused.

        None for a refusal that is already recorded.
        """
        symbol, side, quantity = self._checked(event, intent)
        price = self._reference_price(event, symbol)
        signed = quantity if side == "buy" else -quantity
        reason = self._refusal(symbol, signed, price)
        status: OrderStatus = "refused" if reason else "open"
        if suppress:
            status, reason = "suppressed", SUPPRESSED
        elif status == "open":
            order = OpenOrder(event.seq, index, symbol, side, quantity, price or ZERO)
            self._account.open_orders.append(order)
            forget_refusal(self._account.refusals, symbol, side)
        elif not is_new_refusal(self._account.refusals, symbol, side, reason or ""):
            return None
        return OrderRow(
            event.seq, index, symbol, side, quantity, price or ZERO, status, reason, event.released
        )

    def _checked(self, event: Event, intent: OrderIntent) -> OrderIntent:
        """Return the intent with its quantity at four places. Raise StrategyFailed if invalid."""
        try:
            symbol, side, wanted = intent
            quantity = quantise(Decimal(wanted))
            if side not in ("buy", "sell") or not isinstance(symbol, str):
                raise ValueError(
                    f"{intent!r} is not a valid order: side is buy or sell, symbol a text"
                )
            if not 0 < quantity <= MAX_QUANTITY:
                raise ValueError(f"{intent!r} is not a valid order: its quantity is {quantity}")
        except (TypeError, ValueError, ArithmeticError) as error:
            raise StrategyFailed(self.spec.strategy, event.seq, error) from error
        return OrderIntent(symbol, side, quantity)

    def _reference_price(self, event: Event, symbol: str) -> Decimal | None:
        """Return the last price of `symbol`; None if it is neither this event's nor held."""
        if symbol == event.symbol:
            return event.close
        position = self._account.positions.get(symbol)
        return None if position is None else position.mark

    def _refusal(self, symbol: str, signed: Decimal, price: Decimal | None) -> str | None:
        symbols = self._context.symbols
        if symbols is not None and symbol not in symbols:
            return f"{symbol} is not one of the portfolio's symbols"
        if price is None:
            return f"no price of {symbol} is known at this event"
        return refusal(self.spec.limits, self._account, symbol, signed, price)

    def _changed_state(self) -> bytes | None:
        """Return the encoded state, or None if the caller already has it."""
        try:
            packed = pack_state(self.state)
        except Exception as error:  # a strategy may put anything into its state
            raise StrategyFailed(self.spec.strategy, self.last_seq, error) from error
        if packed == self._given:
            return None
        self._given = packed
        return compress_state(packed)


def _load(spec: Spec) -> Strategy:
    """Return an instance of the spec's strategy with its parameters."""
    strategy = find_strategy(spec)
    # An artifact is identified by its bytes, whatever version its strategy declares.
    if not spec.artifact and strategy.version != spec.strategy_version:
        raise VersionDiffers(
            f"{spec.strategy} is installed in version {strategy.version}; revision"
            f" {spec.revision} of {spec.portfolio} needs version {spec.strategy_version}"
        )
    try:
        return strategy(strategy.convert(spec.parameters))
    except BaseException as error:
        raise StrategyFailed(spec.strategy, None, error) from error


def _empty_part(spec: Spec, strategy: Strategy) -> StrategyPart:
    try:
        data = _checked_dict(strategy.initial())
    except BaseException as error:
        raise StrategyFailed(spec.strategy, None, error) from error
    return StrategyPart(spec.strategy, strategy.state_version, spec.parameters, data)


def _adapted_part(spec: Spec, strategy: Strategy, old: StrategyPart) -> StrategyPart:
    try:
        adapted = strategy.adapt(old)
        data = None if adapted is None else _checked_dict(adapted)
    except BaseException as error:
        raise StrategyFailed(spec.strategy, None, error) from error
    if data is None:
        return _empty_part(spec, strategy)
    return StrategyPart(spec.strategy, strategy.state_version, spec.parameters, data)


def _checked_dict(data: dict[str, Any]) -> dict[str, Any]:
    """Return `data`. Raise TypeError if it is not a dict, which could not be decoded again."""
    if not isinstance(data, dict):
        raise TypeError(f"a state is a dict, not {type(data).__name__}")
    return data
