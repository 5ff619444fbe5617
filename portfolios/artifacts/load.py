"""Put an artifact on the path of a process that may run foreign code, and find its strategies.

Only portfolio processes do this, after the fork and before the sandbox: two children of one
forkserver then run two versions of one package side by side.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from portfolios.runtime.readable_paths import allow_reading
from portfolios.runtime.spec import Spec
from portfolios.strategies import registry
from portfolios.strategies.base import Strategy


class NotInArtifact(LookupError):
    """The artifact has no such strategy. The text is a sentence."""


def put_on_path(wheel: Path, site: Path | None = None) -> None:
    """Import from `wheel` first, then from the packages in `site`, then as before.

    Call it before `apply_sandbox`, which then allows reading both.
    """
    added = [str(wheel), *([str(site)] if site is not None else [])]
    sys.path[:0] = added
    for path in added:
        allow_reading(path)


def strategy_class(spec: Spec) -> type[Strategy]:
    """Return the class that `spec` runs: of its artifact, or of the release by its name.

    Raise NotInArtifact, UnknownStrategy, or whatever the import raises.
    """
    if not spec.artifact:
        return registry.get(spec.strategy)
    found = named_class(spec.strategy_class)
    if found is None or found.name != spec.strategy:
        raise NotInArtifact(
            f"the artifact {spec.artifact[:12]} has no strategy {spec.strategy} at"
            f" {spec.strategy_class}"
        )
    return found


def named_class(path: str) -> type[Strategy] | None:
    """Import and return the strategy class at `package.module:Class`, or None if it is none."""
    module, _, name = path.partition(":")
    found: object = import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Strategy) and hasattr(found, "name"):
        return found
    return None
