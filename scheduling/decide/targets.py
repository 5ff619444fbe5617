"""Where could this portfolio go? Answers for a person who asks before acting."""

from __future__ import annotations

from collections.abc import Iterable

from scheduling.decide.world import Reason, Snapshot, TargetAnswer


def targets(snapshot: Snapshot, portfolio_name: str) -> list[TargetAnswer]:
    """Return one answer for every node, in the order of their names."""
    raise NotImplementedError


def choose_target(snapshot: Snapshot, portfolio_name: str) -> TargetAnswer | Reason:
    """Return the node the balancer would move the portfolio to, or why there is none."""
    raise NotImplementedError


def lose(snapshot: Snapshot, names: Iterable[str]) -> Snapshot:
    """Return the snapshot as it would be if the nodes of these names were lost."""
    raise NotImplementedError
