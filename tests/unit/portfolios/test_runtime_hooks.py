"""Warm-up, timers, metrics and logs of a strategy: recorded or derived, so replays are exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from chaos.faults.faulty_strategies import MisbehavingInHook
from portfolios.feeds.history import newest_events
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.errors import StrategyFailed
from portfolios.runtime.events import Event, Tick, encode_events
from portfolios.runtime.messages import Batch, Failed, Load, Loaded, Result
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import COUNTING_FORMAT, HOOKS_FORMAT, decode_state, encode_state
from portfolios.runtime.worker import PortfolioWorker
from portfolios.strategies import registry
from portfolios.strategies.base import OrderIntent, WarmUp
from tests.support.bar_log import BarLog, BarRow
from tests.support.market_factories import Scripted, bar, buy, run, spec


class Hooked(Scripted):
    """Calls the scripted function of a seq with the context, and remembers timers."""

    name = "hooked"
    wanted = 0
    timer: Any = None

    def warm_up(self) -> WarmUp:
        return WarmUp(self.wanted)

    def on_event(self, ctx, state, event):  # type: ignore[no-untyped-def]
        state["seen"].append(event.seq)
        act = self.script.get(event.seq)
        return act(ctx) if act is not None else None

    def on_timer(self, ctx, state, due):  # type: ignore[no-untyped-def]
        state["seen"].append(f"timer {due // 1_000_000}")
        return None if Hooked.timer is None else Hooked.timer(ctx, due)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "hooked", Hooked)
    monkeypatch.setattr(Hooked, "script", {})
    monkeypatch.setattr(Hooked, "timer", None)


def hooked_engine(script: dict[int, Any], timer: Any = None, **changes: Any) -> PortfolioEngine:
    Hooked.script = script
    Hooked.timer = timer
    return PortfolioEngine.fresh(spec("hooked", **changes), ())


def seen_by(engine: PortfolioEngine) -> list[Any]:
    data: list[Any] = engine.state.strategy.data["seen"]
    return data


def bars(*seqs: int, symbol: str = "KO") -> list[Event]:
    return [bar(seq, symbol, "10", "10") for seq in seqs]


def test_a_timer_fires_before_the_first_event_released_at_or_after_it() -> None:
    engine = hooked_engine({1: lambda ctx: ctx.set_timer(3_000_000)})
    run(engine, bars(1, 2, 3, 4))
    assert seen_by(engine) == [1, 2, "timer 3", 3, 4]


def test_timers_fire_in_their_order_once_each_across_a_restart() -> None:
    def many(ctx: Any) -> None:
        for due in (5, 3, 4, 3):
            ctx.set_timer(due * 1_000_000)

    engine = hooked_engine({1: many})
    run(engine, bars(1, 2))
    again = PortfolioEngine.restore(engine.spec, encode_state(engine.state), 2)
    run(again, bars(6, 7))
    assert seen_by(again) == [1, 2, "timer 3", "timer 4", "timer 5", 6, 7]
    assert decode_state(encode_state(again.state)).timers == []


def test_a_timer_that_sets_itself_again_waits_for_the_next_event() -> None:
    engine = hooked_engine({1: lambda ctx: ctx.set_timer(1)}, lambda ctx, due: ctx.set_timer(due))
    run(engine, bars(1, 2, 3))
    assert seen_by(engine) == [1, "timer 0", 2, "timer 0", 3]


def test_a_tick_fires_timers_of_a_strategy_with_symbols_and_is_counted_as_an_event() -> None:
    engine = hooked_engine({1: lambda ctx: ctx.set_timer(2_000_000)}, symbols=["KO"])
    assert engine.symbols == {"KO", ""}
    run(engine, [*bars(1), Tick(2, "", 2_000_000, 2_000_000), *bars(3)])
    assert seen_by(engine) == [1, "timer 2", 3]
    processed = engine.state.account.processed
    assert processed is not None and processed.events == 3


def test_a_strategy_without_timers_needs_no_ticks() -> None:
    assert PortfolioEngine.fresh(spec("buy_and_hold", symbols=["KO"])).symbols == {"KO"}


@pytest.mark.parametrize("due", [-1, 1.5, "soon", None, True, 10**18])
def test_invalid_due_time_of_a_timer_is_the_strategys_failure(due: Any) -> None:
    with pytest.raises(StrategyFailed, match=r"a timer is due at .* in hooked at seq 1$"):
        run(hooked_engine({1: lambda ctx: ctx.set_timer(due)}), bars(1))


@pytest.mark.parametrize("answer", [7, [OrderIntent("KO", "buy", None)]])  # type: ignore[arg-type]
def test_an_invalid_return_value_of_a_timer_hook_is_the_strategys_failure(answer: Any) -> None:
    engine = hooked_engine({1: lambda ctx: ctx.set_timer(1)}, lambda ctx, due: answer)
    with pytest.raises(StrategyFailed, match=r"in hooked at seq 2$"):
        run(engine, bars(1, 2))


def test_metrics_are_sampled_at_equity_points() -> None:
    script = {seq: lambda ctx, seq=seq: ctx.metric("n", seq) for seq in (1, 5, 10, 15)}
    result = run(hooked_engine(script), bars(*range(1, 31)))
    assert [(m.seq, m.name, m.value) for m in result.metrics] == [
        (10, "n", 5.0),  # before the decision of event 10
        (20, "n", 15.0),
        (30, "n", 15.0),
    ]
    assert [(m.seq, m.at_us) for m in result.metrics] == [
        (e.seq, e.at_us) for e in result.equity[1:]
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("", 1), ("Big", 1), ("1st", 1), ("a b", 1), ("x" * 65, 1), (7, 1), ("n", float("nan"))],
)
def test_a_metric_with_an_invalid_name_or_value_is_refused(name: Any, value: Any) -> None:
    with pytest.raises(StrategyFailed, match="metric"):
        run(hooked_engine({1: lambda ctx: ctx.metric(name, value)}), bars(1))


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda ctx, n: ctx.set_timer(n), "32 timers are set, which is the limit"),
        (lambda ctx, n: ctx.metric(f"m{n}", n), "the limit: m32 would be one more"),
    ],
)
def test_the_number_of_timers_and_metrics_is_limited(act: Any, sentence: str) -> None:
    with pytest.raises(StrategyFailed, match=sentence):
        run(hooked_engine({1: lambda ctx: [act(ctx, n) for n in range(33)]}), bars(1))


def test_context_log_prints_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    run(hooked_engine({1: lambda ctx: ctx.log("spread 0.02")}), bars(1))
    assert capsys.readouterr().out == "spread 0.02\n"


@pytest.mark.parametrize(
    ("act", "format"),
    [
        (lambda ctx: ctx.set_timer(10**12), HOOKS_FORMAT),
        (lambda ctx: ctx.metric("n", 1), HOOKS_FORMAT),
        (lambda ctx: ctx.log("nothing"), COUNTING_FORMAT),
    ],
)
def test_state_with_timers_or_metrics_has_a_newer_format(act: Any, format: int) -> None:
    engine = hooked_engine({1: act})
    run(engine, bars(1))
    assert engine.state.format == format


LOG = BarLog("two shares", [BarRow(s, n, 1, 1, 1, 1, 1) for n in range(50) for s in ("GE", "KO")])


def ask(worker: PortfolioWorker, chosen: Spec, state: bytes | None, last_seq: int) -> Loaded:
    """Load as a node does: again with the history, if it is asked for."""
    loaded = worker.answer(Load(chosen, state, last_seq))
    assert isinstance(loaded, Loaded), loaded
    if loaded.needs_history:
        events = newest_events(LOG, chosen.symbol_set(), loaded.last_seq, loaded.needs_history)
        loaded = worker.answer(Load(chosen, state, last_seq, history=encode_events(events)))
        assert isinstance(loaded, Loaded) and not loaded.needs_history
    return loaded


def state_of(worker: PortfolioWorker, seq: int) -> bytes:
    reply = worker.answer(Batch(seq, seq, False, encode_events([])))
    assert isinstance(reply, Result) and reply.result.state is not None
    return reply.result.state


def test_new_portfolio_is_warmed_up_with_the_events_before_its_first_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Hooked, "wanted", 3)
    Hooked.script = dict.fromkeys(range(100), lambda ctx: [buy("KO", "1")])
    worker, chosen = PortfolioWorker(), spec("hooked", symbols=["KO"], first_seq=11)
    assert ask(worker, chosen, None, 0).last_seq == 10
    state = decode_state(state_of(worker, 10))
    assert state.strategy.data == {"seen": [6, 8, 10]}  # KO has the even seqs
    assert state.account.open_orders == []
    assert state.account.processed is not None and state.account.processed.events == 0
    # A restored state is not warmed up again.
    assert ask(PortfolioWorker(), chosen, encode_state(state), 10).needs_history == 0


def test_warm_up_on_a_short_feed_gets_all_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hooked, "wanted", 500)
    worker = PortfolioWorker()
    ask(worker, spec("hooked", symbols=["KO"], first_seq=5), None, 0)
    assert decode_state(state_of(worker, 4)).strategy.data == {"seen": [2, 4]}


@pytest.mark.parametrize("wanted", [-1, 20_001, None])
def test_a_warm_up_of_an_invalid_length_is_a_failure_to_load(
    monkeypatch: pytest.MonkeyPatch, wanted: Any
) -> None:
    monkeypatch.setattr(Hooked, "wanted", wanted)
    failed = PortfolioWorker().answer(Load(spec("hooked"), None, 0))
    assert isinstance(failed, Failed) and failed.stage == "load"


def test_a_strategy_that_raises_during_its_warm_up_fails_to_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Hooked, "wanted", 2)
    Hooked.script = {2: lambda ctx: 1 / 0}
    load = Load(spec("hooked", first_seq=3), None, 0, history=encode_events(bars(1, 2)))
    failed = PortfolioWorker().answer(load)
    assert isinstance(failed, Failed)
    assert (failed.stage, failed.error) == (
        "load",
        "ZeroDivisionError: division by zero in hooked at seq 2",
    )


class Deeper(Hooked):
    """Takes over the state of `Hooked` together with the history."""

    name = "deeper"

    def adapt(self, old, history):  # type: ignore[no-untyped-def, override]
        if self.parameters_empty:
            return None
        return {"seen": [*old.data["seen"], [event.seq for event in history]]}

    parameters_empty = False


@pytest.mark.parametrize(("starts_empty", "expected"), [(False, [2, 4, [6, 8]]), (True, [6, 8])])
def test_a_new_revision_gets_the_history_that_it_asks_for(
    monkeypatch: pytest.MonkeyPatch, starts_empty: bool, expected: list[Any]
) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "deeper", Deeper)
    monkeypatch.setattr(Deeper, "wanted", 2)
    monkeypatch.setattr(Deeper, "parameters_empty", starts_empty)
    engine = hooked_engine({4: lambda ctx: ctx.set_timer(10**15)}, symbols=["KO"])
    engine.run(bars(2, 4), 0, 9)
    worker = PortfolioWorker()
    ask(worker, spec("deeper", symbols=["KO"], revision=2), encode_state(engine.state), 9)
    state = decode_state(state_of(worker, 9))
    assert state.strategy.data == {"seen": expected}
    assert state.timers == ([] if starts_empty else [10**15])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (KeyError("mean"), "KeyError: mean in deeper while loading"),
        (
            [1],
            "TypeError: a state from initial or adapt must be a dict, not list"
            " in deeper while loading",
        ),
    ],
)
def test_a_state_that_adapt_cannot_take_fails_the_load_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, answer: Any, error: str
) -> None:
    def adapt(self: Any, old: Any) -> Any:
        old.data.clear()
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setitem(registry.BUILT_IN, "deeper", Deeper)
    monkeypatch.setattr(Deeper, "adapt", adapt)
    engine = hooked_engine({}, symbols=["KO"])
    engine.run(bars(2, 4), 0, 9)
    state = encode_state(engine.state)
    worker = PortfolioWorker()
    failed = worker.answer(Load(spec("deeper", symbols=["KO"], revision=2), state, 9))
    assert isinstance(failed, Failed)
    assert (failed.stage, failed.error) == ("load", error)
    ask(worker, engine.spec, state, 9)  # the revision before goes on
    result = worker.answer(Batch(9, 10, False, encode_events(bars(10))))
    assert isinstance(result, Result) and result.result.state is not None
    assert decode_state(result.result.state).strategy.data == {"seen": [2, 4, 10]}


@pytest.mark.parametrize(
    ("symbols", "to_seq", "count", "expected"),
    [
        (None, 10, 3, [8, 9, 10]),
        (None, 2, 3, [1, 2]),
        (None, 0, 3, []),
        (frozenset({"KO"}), 11, 3, [6, 8, 10]),
        (frozenset({"KO"}), 10, 9, [2, 4, 6, 8, 10]),
        (frozenset({"XX"}), 50, 3, []),
        (None, 10, 0, []),
    ],
)
def test_newest_events_are_the_last_ones_of_the_given_symbols_up_to_a_seq(
    symbols: frozenset[str] | None, to_seq: int, count: int, expected: Sequence[int]
) -> None:
    assert [e.seq for e in newest_events(LOG, symbols, to_seq, count)] == expected


def test_search_for_newest_events_goes_back_as_far_as_rare_symbols_need() -> None:
    rows = [BarRow("XX" if n in (3, 40_000) else "KO", n, 1, 1, 1, 1, 1) for n in range(50_000)]
    found = newest_events(BarLog("rare", rows), frozenset({"XX"}), 50_000, 2)
    assert [event.seq for event in found] == [4, 40_001]


def test_ticks_do_not_count_among_the_events_of_a_warm_up() -> None:
    class Ticking(BarLog):
        def read_for(self, symbols: Any, from_seq: int, to_seq: int, *given: Any) -> list[Event]:
            found = super().read_for(None, from_seq, to_seq, *given)
            return [e if e.seq % 60 == 0 else Tick(e.seq, "", e.time, 0) for e in found]

    rows = [BarRow("KO", n, 1, 1, 1, 1, 1) for n in range(5_000)]
    found = newest_events(Ticking("ticking", rows), frozenset({"KO"}), 5_000, 30)
    assert [event.seq for event in found] == list(range(3_240, 5_000, 60))


@pytest.mark.parametrize(
    ("hook", "stage"), [("warm_up", "load"), ("on_report", "event"), ("on_timer", "event")]
)
def test_a_hook_that_raises_is_reported_as_the_strategys_failure(
    monkeypatch: pytest.MonkeyPatch, hook: str, stage: str
) -> None:
    monkeypatch.setitem(registry.BUILT_IN, MisbehavingInHook.name, MisbehavingInHook)
    chosen = spec(MisbehavingInHook.name, parameters={"hook": hook, "how": "raise"})
    worker = PortfolioWorker()
    reply = worker.answer(Load(chosen, None, 0, history=encode_events([])))
    if isinstance(reply, Loaded):
        reply = worker.answer(Batch(0, 9, False, encode_events(bars(*range(1, 10)))))
    assert isinstance(reply, Failed)
    assert (reply.stage, reply.error.partition(" in ")[0]) == (stage, f"KeyError: {hook}")
