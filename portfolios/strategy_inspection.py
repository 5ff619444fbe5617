"""Read what a strategy declares, and have it check parameters, without running foreign code here.

Built-in strategies are trusted: their checks are bounded and run in this process. Strategies from
outside are imported and asked in a separate process, with the sandbox and the limits of a portfolio
process. A check that loops, exits, uses up memory or tries to read a secret of the web process
costs one answer and nothing else.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import entry_points
from typing import Any

from django.conf import settings

from portfolios.artifacts.catalog import StrategyFacts, find_strategy
from portfolios.artifacts.declared import problem_in
from portfolios.artifacts.load import short
from portfolios.artifacts.parameters import SchemaUnusable, schema_errors
from portfolios.runtime.messages import (
    Examine,
    Examined,
    Failed,
    FoundStrategy,
    Inspect,
    Inspected,
    UnknownName,
)
from portfolios.sentences import sentence as _
from portfolios.strategies import registry
from portfolios.strategies.base import FieldError, every_symbol_errors
from portfolios.strategies.sources import ENTRY_POINT_GROUP, configured_modules
from portfolios.text import escape_unprintable
from portfolios.verify.replay_process import ArtifactCode, Ask, ReplayProcessEnded, replay_process

#: Time limit of a check, the start of its process included. A check that computes too long is ended
#: sooner, by its CPU time, which does not depend on how busy the machine is.
LIMIT_S = 12.0
INSPECT_LIMIT_S = 60.0  #: of an inspection, which imports every strategy of an artifact
#: Each process takes up to `GINKGO_CHILD_MEMORY_MB` and a processor; further requests wait.
MAX_PARALLEL = 2

#: Limits of the answer to a check: code from outside can write any answer.
MAX_ERRORS, MAX_ERROR = 100, 500

_slots = threading.BoundedSemaphore(MAX_PARALLEL)


class CheckFailed(Exception):
    """Parameters could not be checked, or strategies not listed. The text is a sentence."""


@dataclass(frozen=True)
class Facts:
    """The declarations of a strategy that its portfolios depend on."""

    version: int
    sees_every_symbol: bool


#: By strategy name, as last examined.
_facts: dict[str, Facts] = {}


def facts(strategy: str, artifact: str | None = None) -> Facts:
    """Return the declarations of a strategy. Raise UnknownStrategy or CheckFailed.

    For an artifact, the answer is read from the database: its code is not run.
    """
    if artifact is not None:
        stored = find_strategy(artifact, strategy)
        return Facts(stored.version, stored.sees_every_symbol)
    if strategy not in _facts:
        parameter_errors(strategy, {}, [])  # adds it to `_facts`, or raises
    return _facts[strategy]


def parameter_errors(
    strategy: str,
    parameters: Mapping[str, Any],
    symbols: Sequence[str],
    artifact: str | None = None,
) -> list[FieldError]:
    """Return the parameter errors that the strategy finds. Raise UnknownStrategy or CheckFailed."""
    if artifact is not None:
        return _artifact_errors(find_strategy(artifact, strategy), parameters, symbols)
    found = registry.BUILT_IN.get(strategy)
    if found is not None:
        _facts[strategy] = Facts(found.version, found.sees_every_symbol)
        return found.validate(parameters, symbols)
    if not (configured_modules() or _has_entry_points()):
        registry.get(strategy)  # raises, and imports nothing
    # As text: JSON numbers may be larger than msgpack can hold.
    return list(_check_in_process(strategy, json.dumps(parameters, default=str), tuple(symbols)))


def _artifact_errors(
    strategy: StrategyFacts, parameters: Mapping[str, Any], symbols: Sequence[str]
) -> list[FieldError]:
    """Return the errors by the stored schema; if there are none, those of the strategy's check."""
    try:
        errors = schema_errors(strategy.name, strategy.schema, parameters)
    except SchemaUnusable as unusable:
        raise CheckFailed(
            _(
                "The parameters of strategy {name} cannot be checked: {unusable}.",
                name=strategy.name,
                unusable=unusable,
            )
        ) from None
    if not errors and strategy.checks:
        given = json.dumps(parameters, default=str)
        return list(_check_in_process(strategy.name, given, tuple(symbols), strategy))
    if strategy.sees_every_symbol:
        errors += every_symbol_errors(strategy.name, symbols)
    return errors


def _no_code(sha256: str) -> ArtifactCode:
    """Raise CheckFailed. `find_code` is this function until the application sets another."""
    raise CheckFailed(f"Artifact {sha256[:12]} cannot be read here: a defect to report.")


#: Returns the code of an artifact on this machine, or raises CheckFailed. Set by the application
#: that stores artifacts, since unpacking them is its part.
find_code: Callable[[str], ArtifactCode] = _no_code


def inspect_artifact(code: ArtifactCode) -> list[FoundStrategy]:
    """Return the declarations of each strategy of an artifact. Raise CheckFailed."""
    with _slot():
        try:
            with _process(INSPECT_LIMIT_S, code) as ask:
                reply = ask(Inspect(code.sha256))
        except ReplayProcessEnded as ended:
            raise CheckFailed(
                _(
                    "The process that imports the modules of artifact {artifact} failed: {ended}.",
                    artifact=short(code.sha256),
                    ended=ended,
                )
            ) from None
    if isinstance(reply, Failed):
        raise CheckFailed(f"{reply.error}.")
    if not isinstance(reply, Inspected):
        raise CheckFailed(
            _(
                "Artifact {artifact} cannot be inspected: its process answered {answer} instead of "
                "the strategies, as if the artifact's code had written into the socket of that "
                "process. Correct the code.",
                artifact=short(code.sha256),
                answer=type(reply).__name__,
            )
        )
    problem = problem_in(reply.strategies)  # the artifact's code may have written this answer too
    if problem:
        artifact = short(code.sha256)
        raise CheckFailed(
            _(
                "Artifact {artifact} cannot be inspected: {problem}.",
                artifact=artifact,
                problem=problem,
            )
        )
    return reply.strategies


def check_with_code(
    code: ArtifactCode,
    strategy: FoundStrategy,
    parameters: Mapping[str, Any],
    symbols: Sequence[str],
) -> list[FieldError]:
    """Return the parameter errors that an artifact's code finds. Raise CheckFailed.

    The artifact need not be stored.
    """
    given = json.dumps(parameters, default=str)
    request = Examine(strategy.name, given, list(symbols), code.sha256, strategy.class_path)
    with _slot():
        return list(_examine(request, code))


@lru_cache(maxsize=256)
def _check_in_process(
    strategy: str, parameters: str, symbols: tuple[str, ...], stored: StrategyFacts | None = None
) -> tuple[FieldError, ...]:
    """Return the parameter errors that the strategy finds in a separate process.

    `parameters` is JSON; `stored` is None for an installed strategy. Cached: callers check before
    they take a lock, and the same check under the lock costs nothing.
    """
    code, request = None, Examine(strategy, parameters, list(symbols))
    if stored is not None:
        code = find_code(stored.artifact)
        request = Examine(strategy, parameters, list(symbols), stored.artifact, stored.class_path)
    with _slot():
        return _examine(request, code)


@contextmanager
def _slot() -> Iterator[None]:
    """Wait until fewer than MAX_PARALLEL processes run. Raise CheckFailed after LIMIT_S."""
    if not _slots.acquire(timeout=LIMIT_S):
        raise CheckFailed(
            _(
                "{max_parallel} checks of strategies are running, as many as may run at once; "
                "repeat the request in a moment.",
                max_parallel=MAX_PARALLEL,
            )
        )
    try:
        yield
    finally:
        _slots.release()


def _examine(request: Examine, code: ArtifactCode | None) -> tuple[FieldError, ...]:
    """Return the errors that a new process answers. Raise UnknownStrategy or CheckFailed."""
    strategy = request.strategy
    try:
        with _process(LIMIT_S, code) as ask:
            reply = ask(request)
    except ReplayProcessEnded as ended:
        raise CheckFailed(
            _(
                "The check of {strategy} failed: {ended}. Correct its module or its check().",
                strategy=strategy,
                ended=ended,
            )
        ) from None
    if isinstance(reply, UnknownName):
        raise registry.UnknownStrategy(reply.text)
    if isinstance(reply, Failed):
        raise CheckFailed(
            _(
                "The check of {strategy} failed: {error}. Correct its module or its check().",
                strategy=strategy,
                error=reply.error,
            )
        )
    if not isinstance(reply, Examined):
        raise CheckFailed(
            _(
                "The check of {strategy} failed: its process answered {answer} instead of the "
                "parameter errors, as if the strategy's code had written into the socket of that "
                "process. Correct the code.",
                strategy=strategy,
                answer=type(reply).__name__,
            )
        )
    if code is None:
        _facts[strategy] = Facts(reply.version, reply.sees_every_symbol)
    return tuple(
        FieldError(*(escape_unprintable(part)[:MAX_ERROR] for part in error))
        for error in reply.errors[:MAX_ERRORS]
    )


@cache
def _has_entry_points() -> bool:
    return bool(entry_points(group=ENTRY_POINT_GROUP))


def _process(limit_s: float, code: ArtifactCode | None) -> AbstractContextManager[Ask]:
    """Return a process that runs strategies, with the memory limit and sandbox of a portfolio's."""
    memory_mb, sandboxed = settings.GINKGO.child_memory_mb, settings.GINKGO.strategy_guard
    return replay_process(limit_s, memory_mb, sandboxed=sandboxed, code=code)
