"""Answer where a new or a changed portfolio would run, before it is stored."""

from __future__ import annotations

from dataclasses import replace

from scheduling.decide.planner.fit_warnings import fit_warnings
from scheduling.decide.planner.targets import choose_target
from scheduling.decide.types import PortfolioView, Reason, Snapshot

#: The id of a portfolio that does not exist yet: no row has it.
NEW = -1


def preview_new(snapshot: Snapshot, portfolio: PortfolioView) -> list[Reason]:
    """Return `would_place` with the node, or `would_wait` and why no node takes it. Pure.

    The reasons are parts of one sentence about the new portfolio.
    """
    assumed = replace(snapshot, portfolios=(*snapshot.portfolios, portfolio))
    chosen = choose_target(assumed, portfolio.name)
    if isinstance(chosen, Reason):
        return [Reason("would_wait"), chosen]
    return [
        Reason(
            "would_place",
            {
                "node": chosen.node,
                "load_before": chosen.load_before,
                "load_after": chosen.load_after,
                "capacity": chosen.capacity,
            },
        )
    ]


def preview_changed(snapshot: Snapshot, portfolio: PortfolioView) -> list[str]:
    """Return why a changed portfolio would not fit its node or, without an owner, any node. Pure.

    `portfolio` replaces the one in the snapshot with its id.
    """
    others = (one for one in snapshot.portfolios if one.id != portfolio.id)
    return fit_warnings(replace(snapshot, portfolios=(*others, portfolio)), portfolio.name)
