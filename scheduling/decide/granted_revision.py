"""Choose the revision that a grant brings, which decides what its node must provide.

A portfolio with a living owner is moved with its running revision. Without one it starts again:
with the wanted revision, or after a failure with the last good one, since an unproven revision may
have caused the failure. If no open node can run that revision, the next in order is granted, since
an owner on another revision is better than no owner.

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
    """Return the revisions that a portfolio without a living owner may start with, preferred first.

    `running` is the revision of the last owner; `wanted` is None if it was rejected. If `owned`,
    the run still names its owner, which is lost: the start is a failover. `attempts` counts
    failures since the last progress.
    """
    order: tuple[RevisionChoice | None, ...]
    if owned:
        order = (good, running, wanted)  # an unproven revision may have caused the loss
    elif attempts:
        order = (good, wanted)  # an unproven revision may have caused the failures
    else:
        order = (wanted, good)
    return tuple(dict.fromkeys(choice for choice in order if choice is not None))


def with_granted_revision(
    portfolio: PortfolioView, can_run: Callable[[Requirements], bool]
) -> PortfolioView:
    """Return the portfolio, which has no living owner, with the revision that a grant gives it.

    That is the first of its choices that an open node can run (`can_run`), else its first choice.
    """
    views = [_with_revision(portfolio, choice) for choice in portfolio.revision_choices]
    runnable = (view for view in views if can_run(view.requirements))
    return next(runnable, views[0] if views else portfolio)


def _with_revision(portfolio: PortfolioView, choice: RevisionChoice) -> PortfolioView:
    if choice.revision == portfolio.revision:
        return portfolio
    return replace(
        portfolio,
        revision=choice.revision,
        strategy=choice.strategy,
        strategy_version=choice.strategy_version,
        artifact=choice.artifact,
    )
