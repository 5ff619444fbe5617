"""Incidents as documents, sentences and CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from typing import Any

from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from scheduling.decide.reasons import localize
from scheduling.observe.incidents import IncidentView, OutageView
from scheduling.presentation.formatting import pause, whole

COLUMNS = (
    *("portfolio", "outcome", "target_node", "without_owner_s", "last_commit_at"),
    *("first_commit_at", "last_seq", "from_epoch", "to_epoch", "suppressed", "verification"),
    "handoff",
)


def incident_document(shown: IncidentView) -> dict[str, Any]:
    """Return an incident as lists show it."""
    return {
        "id": shown.id,
        "node": shown.node,
        "at": shown.at,
        "reason": localize(shown.reason, shown.why, get_language()),
        "back_at": shown.back_at,
        "portfolios": shown.portfolios,
        "placed": shown.placed,
        "longest_without_owner_s": _seconds(shown.longest_ms),
    }


def incident_details(shown: IncidentView, outages: Sequence[OutageView]) -> dict[str, Any]:
    """Return an incident with a summary, and what became of each portfolio."""
    return {
        **incident_document(shown),
        "sentence": summary(shown, outages),
        "suppressed": sum(outage.suppressed for outage in outages),
        "outages": [outage_document(outage, shown) for outage in outages],
    }


def outage_document(outage: OutageView, shown: IncidentView) -> dict[str, Any]:
    """Return what became of a portfolio. `so_far_s` is None unless the portfolio waits."""
    return {
        "portfolio": outage.portfolio,
        "outcome": outcome(outage, shown),
        "target_node": outage.target,
        "without_owner_s": _seconds(outage.without_owner_ms),
        "so_far_s": _seconds(outage.so_far_ms) if outcome(outage, shown) == "waits" else None,
        "last_commit_at": outage.last_commit_at,
        "first_commit_at": outage.first_commit_at,
        "last_seq": outage.last_seq,
        "from_epoch": outage.from_epoch,
        "to_epoch": outage.to_epoch,
        "suppressed": outage.suppressed,
        "verification": outage.verification,
        "handoff": outage.handoff,
        "reason": localize(outage.reason, outage.why, get_language()),
    }


def outcome(outage: OutageView, shown: IncidentView) -> str:
    """Return what became of the portfolio: moved, returned, kept, waits, stopped or deleted.

    `returned`: to the same node, under a new epoch. `kept`: the node was back before the portfolio
    was placed elsewhere.
    """
    if outage.first_commit_at is not None:
        return "returned" if outage.target == shown.node else "moved"
    if outage.deleted:
        return "deleted"
    if outage.last_seq is None and shown.back_at is not None:  # the node still owns it
        return "kept"
    return "stopped" if outage.phase in ("stopped", "halted", "quarantined") else "waits"


def summary(shown: IncidentView, outages: Sequence[OutageView]) -> str:
    """Return what became of the portfolios, in sentences."""
    if not outages:
        return _("It ran no portfolio.")
    outcomes = [outcome(outage, shown) for outage in outages]
    placed = outcomes.count("moved") + outcomes.count("returned")
    parts = []
    if placed:
        text = ngettext(
            "%(placed)s of %(all)s portfolio has a new owner; it was without one for %(longest)s.",
            "%(placed)s of %(all)s portfolios have a new owner; the longest was without one for "
            "%(longest)s.",
            len(outcomes),
        )
        longest = pause(shown.longest_ms)
        parts.append(
            text % {"placed": whole(placed), "all": whole(len(outcomes)), "longest": longest}
        )
    kept, waiting, stopped = (outcomes.count(each) for each in ("kept", "waits", "stopped"))
    if kept:
        text = ngettext(
            "%(number)s was kept: the node was back in time.",
            "%(number)s were kept: the node was back in time.",
            kept,
        )
        parts.append(text % {"number": whole(kept)})
    if waiting:
        text = ngettext("%(number)s has no owner yet.", "%(number)s have no owner yet.", waiting)
        parts.append(text % {"number": whole(waiting)})
    if stopped:
        text = ngettext("%(number)s is stopped.", "%(number)s are stopped.", stopped)
        parts.append(text % {"number": whole(stopped)})
    suppressed = sum(outage.suppressed for outage in outages)
    text = _("No order was suppressed meanwhile.")
    if suppressed:
        text = ngettext(
            "%(number)s order was suppressed meanwhile.",
            "%(number)s orders were suppressed meanwhile.",
            suppressed,
        )
    parts.append(text % {"number": whole(suppressed)})
    return " ".join(parts)


def incident_csv(document: dict[str, Any]) -> str:
    """Return the portfolios of an incident as CSV with a header."""
    out = StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for outage in document["outages"]:
        writer.writerow(
            {
                key: value.isoformat() if hasattr(value, "isoformat") else value
                for key, value in outage.items()
            }
        )
    return out.getvalue()


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds / 1000, 3)
