"""Revisions of a portfolio: what differs between two, and the choice of one to reload to."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from portfolios.models import Revision
from scheduling.dashboard.portfolio_page import revision_row
from scheduling.presentation.configuration_diff import Difference, differences

if TYPE_CHECKING:
    from scheduling.observe.fleet_view.types import PortfolioView

MAX_CHOICES = 20  #: newest revisions that a dialog offers
SHOWN_DIGITS = 12  #: digits shown of the hash of an artifact


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two revisions and what differs, from `older` to `newer`."""

    older: Revision
    newer: Revision
    lines: list[Difference]


@dataclass(frozen=True, slots=True)
class RevisionChoice:
    """One revision that a portfolio can be reloaded to, and how it differs from the running one."""

    number: int
    tag: str  #: CSS class for its status
    word: str  #: for its status
    remark: str  #: the reason of the status, else the note, else who made the revision
    is_running: bool
    lines: list[Difference]  #: none if nothing runs


def compared_fields(revision: Revision) -> dict[str, Any]:
    """Return the fields in which two revisions are compared."""
    artifact = revision.artifact_id
    return {
        "strategy": f"{revision.strategy} {revision.strategy_version}",
        "artifact": artifact[:SHOWN_DIGITS] if artifact else None,
        "config": revision.config,
        "symbols": revision.symbols,
        "limits": revision.limits,
    }


def compare(portfolio: int, one: int, other: int) -> Comparison | None:
    """Return what differs between two revisions; None if one does not exist. One statement."""
    rows = {
        row.number: row
        for row in Revision.objects.filter(portfolio_id=portfolio, number__in=(one, other))
    }
    older, newer = rows.get(min(one, other)), rows.get(max(one, other))
    if older is None or newer is None:
        return None
    lines = differences(compared_fields(older), compared_fields(newer))
    return Comparison(older, newer, lines)


def revision_choices(portfolio: PortfolioView, chosen: int | None) -> list[RevisionChoice]:
    """Return the newest revisions and those that run or are wanted, newest first.

    `chosen`: the number of one more revision to offer, or None. Two statements at most.
    """
    rows = list(
        Revision.objects.filter(portfolio_id=portfolio.id).order_by("-number")[:MAX_CHOICES]
    )
    present = {row.number for row in rows}
    known = (chosen, portfolio.revision, portfolio.running_revision)
    missing = {number for number in known if number is not None} - present
    if missing:
        rows += Revision.objects.filter(portfolio_id=portfolio.id, number__in=missing)
    running = next((row for row in rows if row.number == portfolio.running_revision), None)
    choices = []
    for row in sorted(rows, key=attrgetter("number"), reverse=True):
        shown = revision_row(row, portfolio)
        # If nothing runs, each revision is compared with itself: it shows no differences.
        before = compared_fields(running or row)
        creator = _("by %(name)s") % {"name": row.created_by} if row.created_by else ""
        choices.append(
            RevisionChoice(
                number=row.number,
                tag=shown["tag"],
                word=shown["word"],
                remark=row.status_reason or row.note or creator,
                is_running=row is running,
                lines=differences(before, compared_fields(row)),
            )
        )
    return choices
