"""Run a backtest. Reads nothing of the fleet and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
from django.conf import settings

from portfolios.backtest.feed_range import WrongRange, read_range
from portfolios.backtest.run import Backtest, BacktestResult, StrategyStopped, run_backtest
from portfolios.feeds import UnknownFeed, open_feed
from portfolios.feeds.base import Feed
from portfolios.runtime.spec import Spec
from portfolios.strategy_inspection import facts
from portfolios.validation import cash_errors, configuration_errors, missing_symbols_errors
from portfolios.verify.replay_process import replay_process
from scheduling.errors import Invalid, Refused
from scheduling.observe.desired_set import spec_of

#: Seeds `ctx.random`: the same in every backtest, and in no portfolio.
UID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class NewBacktest:
    """What to run, as given."""

    strategy: str
    config: dict[str, Any] = field(default_factory=dict)
    symbols: list[str] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    starting_cash: Decimal = Decimal(100_000)
    feed: str | None = None  #: None: that of the installation
    first: str | None = None  #: a seq or a time; None: the feed's first event
    last: str | None = None


def run_new_backtest(
    new: NewBacktest, on_progress: Callable[[int, int, int], None] = lambda first, at, last: None
) -> BacktestResult:
    """Return the result. Call `on_progress` with (first seq, seq reached, last seq).

    Raise Invalid for wrong input, Refused if the strategy fails.
    """
    backtest = _prepared(new)
    span = backtest.range
    guard = settings.GINKGO
    try:
        with replay_process(memory_mb=guard.child_memory_mb, sandboxed=guard.strategy_guard) as ask:
            return run_backtest(backtest, ask, lambda at: on_progress(span.first, at, span.last))
    except StrategyStopped as stopped:
        raise Refused(
            "strategy_failed", stopped.message, seq=stopped.seq, trace=stopped.trace
        ) from None


def _prepared(new: NewBacktest) -> Backtest:
    feed = _feed(new.feed)
    errors = configuration_errors(new.strategy, new.config, new.symbols, new.limits, feed=feed.name)
    errors += missing_symbols_errors(new.strategy, new.symbols) + cash_errors(new.starting_cash)
    if errors:
        raise Invalid(errors)
    try:
        span = read_range(feed, new.first, new.last)
    except WrongRange as wrong:
        raise Refused("wrong_range", str(wrong), status=400) from None
    facts_of_revision = SimpleNamespace(
        name="backtest",
        uid=UID,
        revision=1,
        strategy=new.strategy,
        strategy_version=facts(new.strategy).version,
        config=new.config,
        symbols=new.symbols,
        limits=new.limits,
        starting_cash=new.starting_cash,
        first_seq=span.first,
        artifact_sha256=None,
        env_sha256=None,
        class_path=None,
    )
    spec = msgspec.convert(spec_of(facts_of_revision), Spec)
    return Backtest(spec, feed, span)


def _feed(name: str | None) -> Feed:
    try:
        return open_feed(name)
    except UnknownFeed as unknown:
        text = str(unknown)
        raise Refused("unknown_feed", f"{text[:1].upper()}{text[1:]}.", status=400) from None
