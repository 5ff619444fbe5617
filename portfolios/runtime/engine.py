"""The engine of one portfolio.

Per event, in this order: timers, fills, mark, equity point, reports, decision, reports; and if it
is the last bar of its time, the decision on the bars of all symbols, reports.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import localcontext
from inspect import signature
from typing import Any

from portfolios.artifacts.load import find_strategy
from portfolios.feeds.history import MAX_WARM_UP
from portfolios.runtime.bar_sets import BarGatherer
from portfolios.runtime.context import EventContext
from portfolios.runtime.errors import HistoryNeeded, SeqMismatch, StrategyFailed, VersionDiffers
from portfolios.runtime.events import Bar, Event
from portfolios.runtime.limits import drawdown_violation
from portfolios.runtime.money import CONTEXT, ZERO, to_four_places
from portfolios.runtime.order_book import OrderBook
from portfolios.runtime.results import BatchResult, EquityRow, MetricRow
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import (
    BARS_FORMAT,
    HOOKS_FORMAT,
    Account,
    State,
    StrategyPart,
    decode_state,
    pack_state,
    state_compressor,
)
from portfolios.strategies.base import Intent, Strategy

EQUITY_STEP_US = 10_000_000  #: feed time from one equity point to the next
MAX_REPORTS = 10_000  #: delivered to a strategy at one event
NO_SYMBOL = frozenset({""})  #: of ticks, and of gaps in all symbols


class PortfolioEngine:
    """Runs one portfolio under one spec. After an exception, discard the engine."""

    def __init__(self, spec: Spec, strategy: Strategy, state: State, last_seq: int) -> None:
        """Continue with `state` after `last_seq`; called by `fresh` and `restore`."""
        self.spec = spec
        self.state = state
        self.last_seq = last_seq
        self._strategy = strategy
        self._account = state.account
        # Older releases would ignore these limits and charges: they cannot read this format.
        if spec.limits.unknown_to_older_releases or spec.broker.charges:
            state.raise_format_to(HOOKS_FORMAT)
        self._orders = OrderBook(spec, state, is_reporting=_overrides(strategy, "on_report"))
        self._context = EventContext(spec, state, self._orders.symbols)
        self._gatherer: BarGatherer | None = None
        if _overrides(strategy, "on_bars"):
            self._gatherer = BarGatherer(state, _listed_symbols(spec))
            state.raise_format_to(BARS_FORMAT)
        else:
            state.forget_bars()
        #: Whether the strategy needs events without a symbol too: ticks tell the time.
        self._needs_time = strategy.sees_every_event or _overrides(strategy, "on_timer")
        self._compress = state_compressor()
        self._caller_state: bytes | None = None  # the packed state that the caller already has
        self._is_ahead = True  # whether the state may differ from the one that the caller has

    @classmethod
    def fresh(cls, spec: Spec, history: Sequence[Event] | None = None) -> PortfolioEngine:
        """Return an engine at first_seq - 1 with the starting cash, warmed up with `history`.

        Raise HistoryNeeded if `history` is None and the strategy asks for some, StrategyFailed if
        it cannot be loaded, UnknownStrategy or VersionDiffers if it is not installed in the spec's
        version.
        """
        strategy = _load(spec)
        wanted = _wanted_history(spec, strategy, history, spec.first_seq - 1)
        cash = to_four_places(spec.starting_cash)
        account = Account(cash, cash, realised=ZERO, positions={}, open_orders=[], equity_step=-1)
        state = State(account, _empty_part(spec, strategy))
        state.count_from(spec.first_seq)
        engine = cls(spec, strategy, state, spec.first_seq - 1)
        engine._warm_up(wanted)
        return engine

    @classmethod
    def restore(
        cls, spec: Spec, state: bytes, last_seq: int, history: Sequence[Event] | None = None
    ) -> PortfolioEngine:
        """Return an engine that continues after `last_seq`.

        If strategy, state version or parameters differ from those that made the state, the new
        strategy's `adapt` converts it; if that returns None, its part starts empty, warmed up with
        `history`. Raise StateUnreadable or what `fresh` raises.
        """
        strategy = _load(spec)
        restored = decode_state(state)
        old = restored.strategy
        unchanged = (old.strategy, old.state_version, old.parameters) == (
            spec.strategy,
            strategy.state_version,
            spec.parameters,
        )
        wanted: Sequence[Event] = ()
        is_kept = unchanged  # whether the strategy's part goes on, as it is or adapted
        if not unchanged:
            wanted = _wanted_history(spec, strategy, history, last_seq)
            adapted = _adapt_part(spec, strategy, old, wanted)
            is_kept = adapted is not None
            restored.strategy = adapted or _empty_part(spec, strategy)
            if not is_kept:
                restored.timers, restored.metrics, restored.bar_set = [], {}, None
        engine = cls(spec, strategy, restored, last_seq)
        if unchanged:
            engine._caller_state = pack_state(restored)  # a batch returns it once it differs
            engine._is_ahead = False
        if not is_kept:
            engine._warm_up(wanted)
        restored.count_from(last_seq + 1)  # the state may have no event count
        return engine

    @property
    def event_seq(self) -> int:
        """Return the seq of the event that is handled now, or was last; 0 before the first."""
        return self._context.seq

    @property
    def extra_symbols(self) -> frozenset[str]:
        """Return the symbols that the spec does not list and whose events are needed.

        These have a position or an open order; with them "", the symbol of ticks, if the strategy
        needs to know the time. The set only shrinks while one spec runs, since an order for such a
        symbol is refused.
        """
        symbols = self._context.symbols
        if symbols is None:
            return frozenset()
        extra = self._account.symbols_in_use() - symbols
        return extra | NO_SYMBOL if self._needs_time else extra

    @property
    def symbols(self) -> frozenset[str] | None:
        """Return the symbols whose events `run` needs, or None for every symbol of the feed."""
        symbols = self._context.symbols
        return None if symbols is None else symbols | self.extra_symbols

    def run(
        self,
        events: Sequence[Event],
        from_seq: int,
        to_seq: int,
        suppress: bool = False,
        want_state: bool = True,
    ) -> BatchResult:
        """Run the events of (from_seq, to_seq] and return the result.

        `events` contains at least those of `symbols`. Events of other symbols change nothing, so
        the caller may keep using the set it got at the start. For a symbol that the spec does not
        list, orders are filled and the position is marked, but the strategy is not called. With
        `suppress`, decisions are recorded and not placed; fills continue. If a limit halts the
        portfolio, the batch ends after that event: `to_seq` of the result is lower than the given
        one, and `halt` has the reason. Without `want_state`, the state is only returned if there is
        something that must be committed at once; a later batch, which may be empty, returns it.

        Raise StrategyFailed or SeqMismatch, after which the engine must be discarded.
        """
        if from_seq != self.last_seq or to_seq < from_seq:
            raise SeqMismatch(
                f"{self.spec.portfolio} is at seq {self.last_seq} and was given seq {from_seq + 1}"
                f" to {to_seq}: a defect to report; its last commit is kept"
            )
        result = BatchResult(
            from_seq, to_seq, state=None, orders=[], fills=[], equity=[], suppress=suppress
        )
        with localcontext(CONTEXT):  # a strategy's change of the context ends with the batch
            if self._account.halted and events:
                self._lift_halt(events)
            self._run_events(events, result)
            self.last_seq = result.to_seq
            self._is_ahead = self._is_ahead or bool(events)
            if self._is_ahead and (want_state or result.is_urgent):
                result.state = self._state_if_changed()
                self._is_ahead = False
        return result

    def _run_events(self, events: Sequence[Event], result: BatchResult) -> None:
        """Handle the events. Attributes are looked up before the loop, which is the hot path."""
        account, context, orders = self._account, self._context, self._orders
        positions, data, timers = account.positions, self.state.strategy.data, self.state.timers
        on_event, symbols = self._strategy.on_event, context.symbols
        waiting, reports = orders.symbols, orders.reports
        if symbols is not None and self._needs_time:
            symbols |= NO_SYMBOL
        sees_every_event, gatherer = self._strategy.sees_every_event, self._gatherer
        next_point_us = (account.equity_step + 1) * EQUITY_STEP_US
        handled: list[Event] | None = None  # for the event count; None: all events so far
        halts = False
        for number, event in enumerate(events):
            symbol = event.symbol
            is_traded = symbols is None or symbol in symbols
            if not is_traded and symbol not in positions and symbol not in waiting:
                if handled is None:
                    handled = list(events[:number])
                continue
            if handled is not None:
                handled.append(event)
            context.seq = event.seq
            if timers and timers[0] <= event.released:
                self._fire_timers(event, result)
            if symbol in waiting and event.has_price:
                with localcontext(CONTEXT):  # a strategy may have changed the context
                    orders.work(event, result)
            position = positions.get(symbol)
            if position is not None and event.has_price:
                position.mark_units = event.close_units
            if event.released >= next_point_us:
                halts = self._add_equity_point(event, result)
                next_point_us = (account.equity_step + 1) * EQUITY_STEP_US
            if reports:
                self._deliver_reports(event, result)
            if is_traded and (sees_every_event or event.has_price):
                try:
                    answer = on_event(context, data, event)
                    intents = tuple(answer) if answer else None
                except BaseException as error:
                    raise StrategyFailed(self.spec.strategy, event.seq, error) from error
                if intents:
                    self._decide(event, intents, result)
                if gatherer is not None and isinstance(event, Bar):
                    self._decide_on_bars(event, gatherer.add(event), result)
            if halts:
                handled = list(events[: number + 1]) if handled is None else handled
                result.to_seq, result.halt = event.seq, account.halted
                break
        counted = events if handled is None else handled
        if counted and account.processed is not None:
            account.processed.add(counted)

    def _lift_halt(self, events: Sequence[Event]) -> None:
        """Clear the reason of a halt if an event is needed: the portfolio was started again."""
        needed = self.symbols
        if needed is None or any(event.symbol in needed for event in events):
            self._account.halted = ""

    def _add_equity_point(self, event: Event, result: BatchResult) -> bool:
        """Record the equity. Return whether its drawdown is over the limit: the portfolio halts."""
        account = self._account
        account.equity_step = event.released // EQUITY_STEP_US
        equity = account.equity
        result.equity.append(EquityRow(event.seq, event.released, equity))
        for name, value in self.state.metrics.items():
            result.metrics.append(MetricRow(event.seq, event.released, name, value))
        figures = account.figures
        assert figures is not None  # `count_from` made them at the load
        figures.add_point(equity)
        if self.spec.limits.largest_drawdown_pct is None:
            return False
        with localcontext(CONTEXT):
            violation = drawdown_violation(self.spec.limits, figures)
        if violation is None:
            return False
        account.halted = violation
        figures.peak, figures.drawdown = equity, ZERO  # after a start, falls count from here
        return True

    def _fire_timers(self, event: Event, result: BatchResult) -> None:
        """Call `on_timer` for each timer that is due at `event`, and carry out its intents."""
        for due in _take_due(self.state.timers, event.released):
            intents = self._call(self._strategy.on_timer, event, due)
            if intents:
                self._decide(event, intents, result)

    def _call(
        self, hook: Callable[..., Iterable[Intent] | None], event: Event, given: Any
    ) -> Sequence[Intent]:
        """Return the intents of a method of the strategy at `event`. Raise StrategyFailed."""
        try:
            return tuple(hook(self._context, self.state.strategy.data, given) or ())
        except BaseException as error:  # a strategy may raise anything, such as SystemExit
            raise StrategyFailed(self.spec.strategy, event.seq, error) from error

    def _warm_up(self, history: Sequence[Event]) -> None:
        """Show past events to the strategy, and drop what it decides."""
        strategy = self._strategy
        with localcontext(CONTEXT):
            for event in history:
                self._context.seq = event.seq
                for due in _take_due(self.state.timers, event.released):
                    self._call(strategy.on_timer, event, due)
                if event.has_price or strategy.sees_every_event:
                    self._call(strategy.on_event, event, event)
                if self._gatherer is not None and isinstance(event, Bar):
                    self._call_bars(event, self._gatherer.add(event))

    def _decide_on_bars(
        self, event: Event, bars: Mapping[str, Bar] | None, result: BatchResult
    ) -> None:
        """Call `on_bars` if `event` completes the bars of its time, and carry out its intents."""
        intents = self._call_bars(event, bars)
        if intents:
            self._orders.bars = bars or {}
            self._decide(event, intents, result)
            self._orders.bars = {}

    def _call_bars(self, event: Event, bars: Mapping[str, Bar] | None) -> Sequence[Intent]:
        """Return the intents of `on_bars`; none if `bars` is None, since the set is incomplete."""
        return () if bars is None else self._call(self._strategy.on_bars, event, bars)

    def _decide(self, event: Event, intents: Sequence[Intent], result: BatchResult) -> None:
        """Carry out intents, report on them to the strategy, and carry out what it answers."""
        with localcontext(CONTEXT):
            self._orders.carry_out(event, intents, result)
        if self._orders.reports:
            self._deliver_reports(event, result)

    def _deliver_reports(self, event: Event, result: BatchResult) -> None:
        """Call `on_report` for all reports of this event, and for those that its answers cause."""
        reports = self._orders.reports
        for _ in range(MAX_REPORTS):
            if not reports:
                return
            intents = self._call(self._strategy.on_report, event, reports.popleft())
            if intents:
                with localcontext(CONTEXT):
                    self._orders.carry_out(event, intents, result)
        endless = RuntimeError(f"on_report caused {MAX_REPORTS:,} further reports at one event")
        raise StrategyFailed(self.spec.strategy, event.seq, endless)

    def _state_if_changed(self) -> bytes | None:
        """Return the encoded state, or None if the caller already has it."""
        try:
            packed = pack_state(self.state)
        except Exception as error:  # a strategy may put anything into its state
            raise StrategyFailed(self.spec.strategy, self.last_seq, error) from error
        if packed == self._caller_state:
            return None
        self._caller_state = packed
        return self._compress(packed)


def _overrides(strategy: Strategy, hook: str) -> bool:
    """Return whether the strategy overrides the method `hook` of `Strategy`."""
    return getattr(type(strategy), hook) is not getattr(Strategy, hook)


def _load(spec: Spec) -> Strategy:
    """Return an instance of the spec's strategy with its parameters."""
    strategy = find_strategy(spec)
    # An artifact is identified by its bytes, whatever version its strategy declares.
    if not spec.artifact and strategy.version != spec.strategy_version:
        raise VersionDiffers(
            f"{spec.strategy} is installed in version {strategy.version}; revision {spec.revision}"
            f" of {spec.portfolio} needs version {spec.strategy_version}: install that version"
        )
    try:
        return strategy(strategy.convert(spec.parameters))
    except BaseException as error:
        raise StrategyFailed(spec.strategy, None, error) from error


def _listed_symbols(spec: Spec) -> frozenset[str]:
    """Return the symbols of a portfolio that acts on the bars of all of them.

    Raise StrategyFailed if it has every symbol of the feed: nobody knows when these are complete.
    """
    symbols = spec.symbol_set()
    if symbols is None:
        every = ValueError("on_bars needs a list of symbols, and the portfolio has all: list them")
        raise StrategyFailed(spec.strategy, None, every)
    return symbols


def _wanted_history(
    spec: Spec, strategy: Strategy, history: Sequence[Event] | None, last_seq: int
) -> Sequence[Event]:
    """Return the events of `history` that the strategy asks for. Raise HistoryNeeded for None."""
    try:
        events = int(strategy.warm_up().events)
        if not 0 <= events <= MAX_WARM_UP:
            raise ValueError(f"warm_up asks for {events:,} events; ask for 0 to {MAX_WARM_UP:,}")
    except BaseException as error:
        raise StrategyFailed(spec.strategy, None, error) from error
    if events and history is None:
        raise HistoryNeeded(events, last_seq)
    return history[-events:] if events and history else ()


def _take_due(timers: list[int], now_us: int) -> list[int]:
    """Remove and return the timers that are due, earliest first."""
    due = timers[: bisect_right(timers, now_us)]
    del timers[: len(due)]
    return due


def _empty_part(spec: Spec, strategy: Strategy) -> StrategyPart:
    """Return the strategy's part of the state before its first event."""
    try:
        data = _require_dict(strategy.initial())
    except BaseException as error:
        raise StrategyFailed(spec.strategy, None, error) from error
    return StrategyPart(spec.strategy, strategy.state_version, spec.parameters, data)


def _adapt_part(
    spec: Spec, strategy: Strategy, old: StrategyPart, history: Sequence[Event]
) -> StrategyPart | None:
    """Return the strategy's part of the state, adapted from `old`; None if it starts empty."""
    try:
        adapt: Callable[..., dict[str, Any] | None] = strategy.adapt
        takes_history = len(signature(adapt).parameters) > 1  # `history` is optional
        adapted = adapt(old, list(history)) if takes_history else adapt(old)
        if adapted is None:
            return None
        data = _require_dict(adapted)
    except BaseException as error:
        raise StrategyFailed(spec.strategy, None, error) from error
    return StrategyPart(spec.strategy, strategy.state_version, spec.parameters, data)


def _require_dict(data: dict[str, Any]) -> dict[str, Any]:
    """Return `data`. Raise TypeError if it is not a dict: nothing else could be decoded again."""
    if not isinstance(data, dict):
        raise TypeError(f"a state from initial or adapt must be a dict, not {type(data).__name__}")
    return data
