"""Rows beside the board: unassigned portfolios, running handoffs, and the newest that ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING

from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from scheduling.dashboard.handoff_steps import (
    HandoffStep,
    build_steps,
    kind_text,
    progress_text,
    reason_text,
)
from scheduling.observe.localized_reason import localized_reason
from scheduling.presentation.formatting import clock, whole
from scheduling.presentation.state_words import state_word

if TYPE_CHECKING:
    from scheduling.observe.fleet_view.types import HandoffView, PortfolioView
    from scheduling.observe.node_losses import NodeLossView


MAX_RECENT_ROWS = 12  #: ended handoffs and losses that are listed; the newest
MAX_TARGETS = 3  #: nodes named in the row of a loss; the others are counted
#: Phase of an unassigned portfolio → verbs of the actions that can help.
_ACTIONS_BY_PHASE = {
    "pending": ("edit", "stop"),
    "halted": ("start",),
    "quarantined": ("start", "reload"),
}


@dataclass(frozen=True, slots=True)
class UnassignedRow:
    """A portfolio without an owner, with its reason and the actions that can help."""

    portfolio: PortfolioView
    label: str  #: its phase
    sentence: str
    actions: tuple[str, ...]  #: verbs of operations


@dataclass(frozen=True, slots=True)
class RunningRow:
    """A handoff under way, with its kind, reason and steps in words."""

    handoff: HandoffView
    kind_text: str
    reason_text: str
    steps: tuple[HandoffStep, ...]


@dataclass(frozen=True, slots=True)
class RecentRow:
    """An ended handoff, or the failovers of one loss of a node."""

    at: datetime | None
    name: str  #: of the portfolio, or of the lost node
    kind_text: str
    pause_ms: float | None  #: for a loss, the longest pause
    tone: str
    source: str
    target: str
    reason_text: str
    id: int | None  #: of the handoff; None for a loss
    portfolio: str  #: empty for a loss


def unassigned_row(portfolio: PortfolioView, now: datetime) -> UnassignedRow:
    """Return the row of a portfolio without an owner; while a handoff runs, without actions."""
    sentence = localized_reason(portfolio)
    if portfolio.handoff is not None:
        progress = progress_text(portfolio.handoff, now)
        sentence = f"{sentence}{_('; ')}{progress}" if sentence else progress
    elif not sentence:
        since = {"at": clock(portfolio.phase_since)}
        sentence = _("waiting since %(at)s for the next pass.") % since
    actions = _ACTIONS_BY_PHASE.get(portfolio.phase, ("stop",))
    return UnassignedRow(
        portfolio,
        capfirst(state_word(portfolio.phase)),
        sentence,
        actions if portfolio.handoff is None else (),
    )


def running_row(handoff: HandoffView, now: datetime) -> RunningRow:
    return RunningRow(
        handoff, kind_text(handoff), reason_text(handoff), tuple(build_steps(handoff, now))
    )


def recent_rows(
    handoffs: Iterable[HandoffView], losses: Iterable[NodeLossView] = ()
) -> tuple[RecentRow, ...]:
    """Return rows of the newest ended handoffs and losses, at most MAX_RECENT_ROWS in all.

    The loss of a node has a row if a portfolio of the node has moved since.
    """
    rows = [_recent_row(handoff) for handoff in handoffs]
    rows += [_loss_row(loss) for loss in losses if loss.moved]
    dated = [row for row in rows if row.at is not None]
    return tuple(sorted(dated, key=attrgetter("at"), reverse=True)[:MAX_RECENT_ROWS])


def _loss_row(loss: NodeLossView) -> RecentRow:
    """Return the row of the failovers that the loss of a node began."""
    shown = loss.targets[:MAX_TARGETS]
    more = len(loss.targets) - len(shown)
    return RecentRow(
        at=loss.moved_at,
        name=loss.node,
        kind_text=ngettext("%(number)s failover", "%(number)s failovers", loss.moved)
        % {"number": whole(loss.moved)},
        pause_ms=loss.slowest_ms,
        tone="",
        source=loss.node,
        target=", ".join(shown) + (_(" and %(more)s more") % {"more": more} if more else ""),
        reason_text=localized_reason(loss),
        id=None,
        portfolio="",
    )


def _recent_row(handoff: HandoffView) -> RecentRow:
    failed = handoff.state in ("failed", "rolled_back")
    pause_ms = handoff.pause_ms
    if handoff.state == "failed" and pause_ms is None and handoff.source_node:
        pause_ms = 0.0  # the source never stopped
    stays_on_node = handoff.source_node == handoff.target_node
    return RecentRow(
        at=handoff.finished_at,
        name=handoff.portfolio,
        kind_text=kind_text(handoff),
        pause_ms=pause_ms,
        tone="warn" if failed else "",
        source="" if stays_on_node else handoff.source_node or "",
        target=handoff.target_node or "",
        reason_text=reason_text(handoff),
        id=handoff.id,
        portfolio=handoff.portfolio,
    )
