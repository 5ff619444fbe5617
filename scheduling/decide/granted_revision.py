"""Which revision a grant brings, and therefore what its node must have.

A living owner is moved with the revision that it runs. Without one the portfolio starts again: as
it is wanted, or after a failure with the last good revision, since what is not proven may have
caused it. Where no open node can run that one, the next in order is granted rather than none: an
owner on another revision serves better than no owner.

Snapshot, plan, targets and what-if answers judge nodes by this revision, and the balancer requests
the handoff with it, so that eligibility and grant cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from scheduling.decide.types import PortfolioView, Requirements, RevisionChoice


def revision_choices(
    *,
    running: RevisionChoice | None,
    good: RevisionChoice | None,
    wanted: RevisionChoice | None,
    owned: bool,
    attempts: int,
) -> tuple[RevisionChoice, ...]:
    """Return the revisions to start without a living owner, the best first.

    `running` is the revision of the last owner, `wanted` None where it was rejected. `owned`: the
    owner may be lost, and this would be its failover. `attempts`: failures since the last progress.
    """
    order: tuple[RevisionChoice | None, ...]
    if owned:
        order = (good, running, wanted)
    elif attempts:
        order = (good, wanted)
    else:
        order = (wanted, good)
    return tuple(dict.fromkeys(version for version in order if version is not None))


def with_granted_revision(
    portfolio: PortfolioView, can_run: Callable[[Requirements], bool]
) -> PortfolioView:
    """Return the portfolio, which has no living owner, with the revision that would be granted.

    The first of its choices that an open node can run; the first of all where no node can run any.
    """
    views = [_with(portfolio, version) for version in portfolio.revision_choices]
    return next(
        (view for view in views if can_run(view.requirements)), views[0] if views else portfolio
    )


def _with(portfolio: PortfolioView, version: RevisionChoice) -> PortfolioView:
    if version.revision == portfolio.revision:
        return portfolio
    return replace(
        portfolio,
        revision=version.revision,
        strategy=version.strategy,
        strategy_version=version.strategy_version,
    )
