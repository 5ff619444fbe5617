"""What to say to a person whose change was accepted but no longer fits where it runs."""

from __future__ import annotations

from collections.abc import Collection

from scheduling.decide.planner import fit_warnings
from scheduling.errors import SnapshotUnavailable
from scheduling.observe.snapshot import observe
from scheduling.timing import timing

PLACED_BY = frozenset({"weight", "selector"})


def warnings_after_change(name: str, changed: Collection[str]) -> list[str]:
    """Return a sentence for each way in which it does not fit after `changed`; [] if it does.

    Looks at the fleet only where a change bears on that. The change stands already: a fleet that
    cannot be read is said, and is no reason to call the change failed.
    """
    if PLACED_BY.isdisjoint(changed):
        return []
    try:
        return fit_warnings.fit_warnings(observe(timing()).snapshot, name)
    except SnapshotUnavailable:
        return [f"{name} was changed; whether it fits where it runs cannot be read now."]
