"""Run a backtest, which reads nothing of the fleet and writes nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from django.conf import settings

from portfolios import strategy_inspection, validation
from portfolios.artifacts.catalog import find_strategy
from portfolios.artifacts.lock import check_complete, env_sha256, normalise_lock
from portfolios.artifacts.wheel import WheelRefused, read_wheel
from portfolios.backtest.feed_range import WrongRange, read_range
from portfolios.backtest.run import Backtest, BacktestResult, StrategyStopped, run_backtest
from portfolios.feeds import UnknownFeed, feed_names, open_feed
from portfolios.feeds.base import Feed
from portfolios.models import FeedKind, FeedRow
from portfolios.runtime.messages import FoundStrategy
from portfolios.runtime.spec import Spec
from portfolios.sentences import sentence as _
from portfolios.strategies.base import FieldError
from portfolios.strategies.registry import UnknownStrategy
from portfolios.text import quoted
from portfolios.verify.replay_process import LIMIT_S, ArtifactCode, replay_process
from scheduling.artifact_code import CodeUnavailable, artifact_code, code_of_upload
from scheduling.errors import Invalid, Refused
from scheduling.observe.desired_set import spec_of
from scheduling.operations.artifacts import resolve_artifact
from scheduling.verification.recorded_feed import RecordedFeed

#: Seeds `ctx.random`. Every backtest has this uid; no portfolio has it.
UID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class NewBacktest:
    """The fields of a backtest, unchecked."""

    strategy: str
    config: dict[str, Any] = field(default_factory=dict)
    symbols: list[str] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    starting_cash: Decimal = Decimal(100_000)
    feed: str | None = None  #: its name; None: the one that GINKGO_FEED names
    first: str | None = None  #: a seq or a time; None: the feed's first event
    last: str | None = None  #: the same; None: the feed's last event, or the last of one lap
    artifact: str | None = None  #: a hash, or the file of a wheel; None: an installed strategy
    lock: str = ""  #: the dependencies of a wheel that is a file


@dataclass(frozen=True, slots=True)
class _Runnable:
    """A strategy, and the code to run it from."""

    version: int
    artifact: str = ""  #: its sha256; empty: a strategy of the release
    environment: str = ""  #: sha256 of the artifact's lock; empty: it has no dependencies
    strategy_class: str = ""  #: where the artifact has the class
    code: ArtifactCode | None = None  #: None: a strategy of the release


def run_new_backtest(
    new: NewBacktest,
    on_progress: Callable[[int, int, int], None] = lambda first, at, last: None,
    answer_limit_s: float = LIMIT_S,
) -> BacktestResult:
    """Return the result. Call `on_progress` with (first seq, seq reached, last seq) after a batch.

    The process is killed if one answer takes longer than `answer_limit_s`. Raise Invalid for a
    wrong configuration, Refused for an unknown feed or range, or if code, strategy or feed fail.
    """
    feed = open_backtest_feed(new.feed)
    runnable = _checked_strategy(new, feed)
    env = settings.GINKGO
    try:
        span = read_range(feed, new.first, new.last)
        backtest = Backtest(_spec(new, runnable, span.first), feed, span)
        with replay_process(
            answer_limit_s,
            memory_mb=env.child_memory_mb,
            sandboxed=env.strategy_guard,
            code=runnable.code,
        ) as ask:
            return run_backtest(backtest, ask, lambda at: on_progress(span.first, at, span.last))
    except WrongRange as wrong:
        raise Refused("wrong_range", str(wrong), status=400) from None
    except StrategyStopped as stopped:
        raise Refused(
            "strategy_failed", stopped.message, seq=stopped.seq, trace=stopped.trace
        ) from None


def open_backtest_feed(name: str | None) -> Feed:
    """Return the feed with this name, or the installation's (None). Raise Refused if unknown."""
    if name is not None and name not in feed_names():  # a packaged feed needs no database
        recorded = FeedRow.objects.filter(name=name, kind=FeedKind.RECORDED)
        row = recorded.select_related("writer").first()
        if row is not None:
            return RecordedFeed(row)
    try:
        return open_feed(name)
    except UnknownFeed as unknown:
        text = _(
            "There is no feed named {feed}; `manage.py feed list` shows them.",
            feed=quoted(unknown.name),
        )
        raise Refused("unknown_feed", text, status=400) from None


def _spec(new: NewBacktest, runnable: _Runnable, first_seq: int) -> Spec:
    """Return the spec of the backtest, in the form in which a node gets that of a portfolio."""
    facts_of_revision = SimpleNamespace(
        name="backtest",
        uid=UID,
        revision=1,
        strategy=new.strategy,
        strategy_version=runnable.version,
        config=new.config,
        symbols=new.symbols,
        limits=new.limits,
        starting_cash=new.starting_cash,
        first_seq=first_seq,
        artifact_sha256=runnable.artifact,
        env_sha256=runnable.environment,
        class_path=runnable.strategy_class,
    )
    return msgspec.convert(spec_of(facts_of_revision), Spec)


# --- the strategy --------------------------------------------------------------------------------


def _checked_strategy(new: NewBacktest, feed: Feed) -> _Runnable:
    """Return the strategy and its code.

    Raise Invalid for an unknown strategy or a configuration that it refuses, Refused if its code
    cannot be run.
    """
    errors = validation.cash_errors(new.starting_cash)  # each function below adds what it finds
    try:
        if new.artifact is None:
            return _installed_strategy(new, feed, errors)
        if new.artifact.endswith(".whl") or os.path.exists(new.artifact):
            return _wheel_strategy(new, feed, errors)
        return _stored_strategy(new, feed, errors)
    except CodeUnavailable as error:
        message = _("{artifact} cannot be run: {error}.", artifact=new.artifact, error=error)
        raise Refused("code_unavailable", message) from None
    except UnknownStrategy as unknown:
        message = _("{unknown}.", unknown=str(unknown))
        raise Invalid([validation.error("strategy", "unknown_strategy", message)]) from None
    except strategy_inspection.CheckFailed as failed:
        raise Refused("check_failed", str(failed), status=400) from None


def _installed_strategy(new: NewBacktest, feed: Feed, errors: list[dict[str, str]]) -> _Runnable:
    """Return the strategy of the release.

    Raise Invalid with `errors` and those that are found here, if there are any.
    """
    errors += _configuration_errors(new, feed, None)
    errors += validation.missing_symbols_errors(new.strategy, new.symbols)
    _raise_if(errors)
    return _Runnable(strategy_inspection.facts(new.strategy).version)


def _stored_strategy(new: NewBacktest, feed: Feed, errors: list[dict[str, str]]) -> _Runnable:
    """Return the strategy of a stored artifact.

    Raise Invalid with `errors` and those that are found here, if there are any.
    """
    sha256, artifact_errors = resolve_artifact(new.artifact)
    _raise_if(artifact_errors)
    assert sha256 is not None, "an artifact is given"
    errors += _configuration_errors(new, feed, sha256)
    errors += validation.missing_symbols_errors(new.strategy, new.symbols, sha256)
    _raise_if(errors)
    found = find_strategy(sha256, new.strategy)
    code = artifact_code(sha256)
    return _Runnable(found.version, sha256, _environment_of(code), found.class_path, code)


def _wheel_strategy(new: NewBacktest, feed: Feed, errors: list[dict[str, str]]) -> _Runnable:
    """Return the strategy of a wheel file, which is unpacked into the code cache and not stored.

    Raise Invalid with `errors` and those found here, UnknownStrategy, or Refused for an unusable
    file.
    """
    path = Path(new.artifact or "")
    try:
        wheel = path.read_bytes()
        facts = read_wheel(path.name, wheel)
        lock = normalise_lock(new.lock)
        check_complete(f"{facts.name} {facts.version}", facts.requires, lock)
    except OSError as error:
        message = _("{path} cannot be read: {strerror}.", path=path, strerror=error.strerror)
        raise Refused("unreadable", message) from None
    except WheelRefused as refused:
        raise Refused(refused.code, str(refused), status=400) from None
    sha256, environment = hashlib.sha256(wheel).hexdigest(), env_sha256(lock)
    code = code_of_upload(sha256, wheel, environment, lock)
    found = {each.name: each for each in strategy_inspection.inspect_artifact(code)}
    strategy = found.get(new.strategy)
    if strategy is None:
        names = ", ".join(found) or "none"
        message = _(
            "{path} has no strategy {strategy!r}; it has: {names}",
            path=path,
            strategy=new.strategy,
            names=names,
        )
        raise UnknownStrategy(message)
    errors += _configuration_errors(new, feed, sha256, _parameter_check_in(code, strategy))
    if not new.symbols and not strategy.sees_every_symbol:
        errors.append(validation.no_symbols_error(new.strategy))
    _raise_if(errors)
    return _Runnable(strategy.version, sha256, environment, strategy.class_path, code)


def _configuration_errors(
    new: NewBacktest,
    feed: Feed,
    artifact: str | None,
    check: validation.ParameterCheck = strategy_inspection.parameter_errors,
) -> list[dict[str, str]]:
    return validation.configuration_errors(
        new.strategy, new.config, new.symbols, new.limits, artifact, feed.name, check
    )


def _parameter_check_in(code: ArtifactCode, strategy: FoundStrategy) -> validation.ParameterCheck:
    """Return the check of parameters by the strategy's own code in a sandboxed process."""

    def check(
        name: str, parameters: Mapping[str, Any], symbols: Sequence[str], artifact: str | None
    ) -> Sequence[FieldError]:
        return strategy_inspection.check_with_code(code, strategy, parameters, symbols)

    return check


def _environment_of(code: ArtifactCode) -> str:
    """Return the hash of the lock, which is part of the interpreter's path; "" without a lock.

    The path ends in `HASH-cpython-311/venv/bin/python`.
    """
    return "" if code.python is None else code.python.parents[2].name.partition("-")[0]


def _raise_if(errors: list[dict[str, str]]) -> None:
    if errors:
        raise Invalid(errors)
