"""List the strategies of the artifact that this process was started for, by running its code.

Call this only in the sandboxed process of a strategy: the code comes from outside.
"""

from __future__ import annotations

from typing import Any

import msgspec

from portfolios.artifacts import load
from portfolios.artifacts.declared import (
    LARGEST,
    MAX_SCHEMA_BYTES,
    MAX_STRATEGIES,
    MAX_SUMMARY,
    NAME,
    NAME_RULE,
    schema_too_large,
)
from portfolios.runtime.errors import ArtifactUnusable
from portfolios.runtime.messages import FoundStrategy
from portfolios.strategies.base import Strategy, acts_on_bars


def inspect_artifact(sha256: str) -> list[FoundStrategy]:
    """Return the declarations of each strategy of the artifact. Raise ArtifactUnusable."""
    classes = load.strategy_classes(sha256)
    if len(classes) > MAX_STRATEGIES:
        raise ArtifactUnusable(
            f"artifact {load.short(sha256)} has {len(classes)} strategies, limit {MAX_STRATEGIES}:"
            " divide it into several"
        )
    return [_inspect(name, found) for name, found in sorted(classes.items())]


def _inspect(name: str, found: type[Strategy]) -> FoundStrategy:
    """Return the declarations of a strategy class. Raise ArtifactUnusable."""
    if not NAME.fullmatch(name):
        raise ArtifactUnusable(
            f"the strategy class {found.__name__} has the name {name[:80]!r}; {NAME_RULE}"
        )
    versions = (found.version, found.state_version)
    if not all(isinstance(number, int) and 0 <= number <= LARGEST for number in versions):
        raise ArtifactUnusable(
            f"version and state_version of {name} are {versions!r:.80}; both must be whole numbers"
            f" from 0 to {LARGEST:,}"
        )
    if found.sees_every_symbol and acts_on_bars(found):
        raise ArtifactUnusable(
            f"{name} has on_bars, which needs a list of symbols, and sees_every_symbol, which"
            " refuses one: leave one of them out"
        )
    try:
        schema = msgspec.json.encode(found.schema())
    except Exception as error:
        raise ArtifactUnusable(
            f"no JSON schema can be made of the parameters of {name}: {error}"
        ) from error
    if len(schema) > MAX_SCHEMA_BYTES:
        raise ArtifactUnusable(schema_too_large(name, len(schema)))
    return FoundStrategy(
        name=name, class_path=f"{found.__module__}:{found.__qualname__}",
        version=found.version, state_version=found.state_version, schema=schema.decode(),
        sees_every_symbol=bool(found.sees_every_symbol),
        # Whether code checks what the schema cannot: with `on_bars`, that symbols are listed.
        checks=_overrides(found, "check") or _overrides(found, "validate") or acts_on_bars(found),
        warm_up=_warm_up(found),
        summary=" ".join((found.__doc__ or "").split())[:MAX_SUMMARY],
    )  # fmt: skip


def _overrides(found: type[Strategy], method: str) -> bool:
    """Return whether a strategy class overrides the class method `method`."""
    return getattr(found, method).__func__ is not getattr(Strategy, method).__func__


def _warm_up(found: Any) -> int | None:
    """Return how many warm-up events a class asks for with default parameters; None: unknown."""
    try:
        wanted = found(found.convert({})).warm_up()
        events = int(wanted.events) if wanted is not None else 0
    except Exception:
        return None  # a parameter has no default, or `warm_up` failed
    return events if 0 <= events <= LARGEST else None
