"""What the page of one portfolio shows of the snapshot. Pure; its tables are read by the view."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.conf import settings

from scheduling.dashboard.board import Message, card_message, lag_seconds
from scheduling.dashboard.handoff_steps import because, kind_words, steps_of
from scheduling.presentation.formatting import moment

if TYPE_CHECKING:
    from portfolios.models import Revision
    from scheduling.models import Event
    from scheduling.observe.fleet_view import FleetView, PortfolioView

PHASE_TAGS = {
    "running": "tag-ok",
    "starting": "tag-act",
    "draining": "tag-act",
    "pending": "tag-warn",
    "halted": "tag-warn",
    "quarantined": "tag-bad",
}
REVISION_TAGS = {"good": "tag-ok", "rejected": "tag-bad", "unproven": "tag-act"}
REVISION_WORDS = {"unproven": "not yet good"}


def portfolio_context(board: FleetView, line: PortfolioView) -> dict[str, Any]:
    """Return what the head of the page and its positions show."""
    account = line.account or {}
    handoff = line.handoff
    message = card_message(line, board.at, settings.GINKGO.good_after_s)
    return {
        "board": board,
        "p": line,
        "phase_tag": PHASE_TAGS.get(line.phase, ""),
        "revision_tag": REVISION_TAGS.get(line.rev_status, ""),
        "revision_word": REVISION_WORDS.get(line.rev_status, line.rev_status),
        "account": account,
        "positions": account.get("positions") or [],
        "lag_seconds": lag_seconds(line.lag_events, board.rate),
        "handoff": handoff,
        "handoff_kind": kind_words(handoff) if handoff else "",
        "handoff_steps": steps_of(handoff, board.at) if handoff else [],
        "handoff_because": because(handoff) if handoff else "",
        "message": message if handoff is None else None,
        "nothing_yet": account.get("equity") is None,
        "canary": line.state if line.strategy == "canary" else None,
        "symbol_count": len(line.symbols or []),
    }


def stopped_message(line: PortfolioView, asked: Event | None) -> Message | None:
    """Return who stopped it, when and why; None where its reason says more, as that of a halt."""
    if asked is None or line.reason not in ("", asked.reason):
        return None
    why = f": {asked.reason}" if asked.reason else ""
    return Message(f"stopped {moment(asked.at)} by {asked.actor}{why}", "p-stopped", "warn")


def revision_row(row: Revision, line: PortfolioView) -> dict[str, Any]:
    """Return a revision with what is said of it. One that neither runs nor is wanted is proved no
    more: another one replaced it."""
    current = row.number in (line.revision, line.running_revision)
    status = row.status if current or row.status != "unproven" else "replaced"
    return {
        "row": row,
        "tag": REVISION_TAGS.get(status, ""),
        "word": REVISION_WORDS.get(status, status),
    }


def equity_points(
    points: list[tuple[float, Decimal]], most: int = 400
) -> tuple[str, tuple[Decimal, Decimal] | None]:
    """Return the points of a polyline in a box of 1000 by 260, thinned to `most`, and its range."""
    if len(points) < 2:
        return "", None
    step = max(len(points) // most, 1)
    kept = points[::step]
    if kept[-1] != points[-1]:
        kept.append(points[-1])
    low, high = min(v for _, v in kept), max(v for _, v in kept)
    first, last = kept[0][0], kept[-1][0]
    width = last - first or 1.0
    height = float(high - low) or 1.0
    text = " ".join(
        f"{1000 * (at - first) / width:.1f},{250 - 240 * float(value - low) / height:.1f}"
        for at, value in kept
    )
    return text, (low, high)
