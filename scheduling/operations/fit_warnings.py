"""Warnings about an accepted change after which a portfolio no longer fits its node."""

from __future__ import annotations

from collections.abc import Collection

from scheduling.decide.planner import fit_warnings
from scheduling.errors import SnapshotUnavailable
from scheduling.observe.snapshot import observe
from scheduling.timing import timing

#: Fields whose change may make a portfolio no longer fit its node.
FIT_FIELDS = frozenset({"weight", "selector"})


def warnings_after_change(name: str, changed: Collection[str]) -> list[str]:
    """Return a sentence for each requirement of the portfolio `name` that its node no longer meets.

    Reads the fleet only if one of the `changed` fields is in FIT_FIELDS. The change is already
    stored, so a fleet that cannot be read results in a warning, not in an error.
    """
    if FIT_FIELDS.isdisjoint(changed):
        return []
    try:
        return fit_warnings.fit_warnings(observe(timing()).snapshot, name)
    except SnapshotUnavailable:
        return [f"{name} was changed. Whether it still fits its node cannot be read now."]
