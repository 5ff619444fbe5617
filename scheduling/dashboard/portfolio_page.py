"""Page of one portfolio: what it shows of the snapshot. Pure; the view reads its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.translation import gettext as _

from portfolios.artifacts.parameters import properties
from scheduling.dashboard.board.cards import Message, card_message, lag_text
from scheduling.dashboard.figures import canary_text
from scheduling.dashboard.handoff_steps import build_steps, kind_text, reason_text
from scheduling.presentation.formatting import because, moment, value_text
from scheduling.presentation.state_words import state_word

if TYPE_CHECKING:
    from portfolios.models import Revision
    from scheduling.models import Event
    from scheduling.observe.fleet_view.types import FleetView, PortfolioView

PHASE_TAGS = {  #: phase → CSS class
    "running": "tag-ok",
    "starting": "tag-info",
    "draining": "tag-info",
    "pending": "tag-warn",
    "halted": "tag-warn",
    "quarantined": "tag-bad",
}
REVISION_TAGS = {"good": "tag-ok", "rejected": "tag-bad", "unproven": "tag-info"}


def portfolio_context(fleet: FleetView, portfolio: PortfolioView) -> dict[str, Any]:
    """Return the context of the page head, of positions and metrics."""
    account = portfolio.account
    handoff = portfolio.handoff
    message = card_message(portfolio, fleet.at, settings.GINKGO.good_after_s)
    return {
        "fleet": fleet,
        "portfolio": portfolio,
        "phase_tag": PHASE_TAGS.get(portfolio.phase, ""),
        "strategy": f"{portfolio.strategy} {portfolio.strategy_version}",
        "revision_tag": REVISION_TAGS.get(portfolio.rev_status, ""),
        "revision_word": state_word(portfolio.rev_status),
        "account": account,
        "positions": account.get("positions") or [],
        "metrics": sorted((account.get("metrics") or {}).items()),
        "lag_seconds": lag_text(portfolio.lag_events, portfolio.feed_rate),
        "handoff": handoff,
        "handoff_kind": kind_text(handoff) if handoff else "",
        "handoff_steps": build_steps(handoff, fleet.at) if handoff else [],
        "handoff_reason": reason_text(handoff) if handoff else "",
        "message": message if handoff is None else None,
        "nothing_yet": account.get("equity") is None,
        "canary": portfolio.state if portfolio.strategy == "canary" else None,
        "canary_text": canary_text(portfolio.state),
        "symbol_count": len(portfolio.symbols),
    }


def stopped_message(portfolio: PortfolioView, event: Event | None) -> Message | None:
    """Return who stopped the portfolio, when and why, as the audit-log line `event` says.

    None if there is no such event, or if the portfolio has a reason of its own, which is shown
    instead.
    """
    if event is None or portfolio.reason not in ("", event.reason):
        return None
    stopped = {"at": moment(event.at), "by": event.actor}
    text = because(_("stopped %(at)s by %(by)s") % stopped, event.reason)
    return Message(text, icon="p-stopped", tone="warn")


def revision_row(row: Revision, portfolio: PortfolioView) -> dict[str, Any]:
    """Return the revision as a row of the page, with a word and a CSS class for its status.

    An unproven revision that neither runs nor is wanted is shown as `replaced`.
    """
    current = row.number in (portfolio.revision, portfolio.running_revision)
    status = "replaced" if row.status == "unproven" and not current else row.status
    return {
        "row": row,
        "before": row.number - 1,
        "tag": REVISION_TAGS.get(status, ""),
        "word": state_word(status),
    }


@dataclass(frozen=True, slots=True)
class ShownParameter:
    """One parameter with its value, or its default if the configuration leaves it out."""

    name: str
    text: str
    is_default: bool


def shown_parameters(
    config: Mapping[str, Any], schema: Mapping[str, Any] | None
) -> list[ShownParameter]:
    """Return the parameters in the order of the schema, then the configured ones that it lacks.

    A parameter with neither a configured value nor a default is left out.
    """
    declared = properties(schema) if schema else {}
    shown = []
    for name in dict.fromkeys([*declared, *config]):
        part = declared.get(name)
        if name in config:
            shown.append(ShownParameter(name, value_text(config[name]), False))
        elif isinstance(part, Mapping) and "default" in part:
            shown.append(ShownParameter(name, value_text(part["default"]), True))
    return shown


def shown_limits(limits: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (name, value) of each limit; those of the paper broker as `broker NAME`."""
    broker = limits.get("broker")
    found = [(name, value_text(value)) for name, value in limits.items() if name != "broker"]
    if isinstance(broker, Mapping):
        found += [(f"broker {name}", value_text(value)) for name, value in broker.items()]
    return found


def equity_polyline(
    points: list[tuple[float, Decimal]], max_points: int = 400
) -> tuple[str, tuple[Decimal, Decimal] | None]:
    """Return the thinned (time, value) `points` as those of an SVG polyline, and (lowest, highest).

    The box is 1000 wide and 260 high, with 10 left free above and below the curve. Fewer than two
    points make no line: then "" and None.
    """
    if len(points) < 2:
        return "", None
    step = max(len(points) // max_points, 1)
    kept = points[::step]
    if kept[-1] != points[-1]:
        kept.append(points[-1])
    low, high = min(value for _, value in kept), max(value for _, value in kept)
    first, last = (at for at, _value in (kept[0], kept[-1]))
    width = last - first or 1.0  # 1 instead of 0, by which the positions are divided
    height = float(high - low) or 1.0
    text = " ".join(
        f"{1000 * (at - first) / width:.1f},{250 - 240 * float(value - low) / height:.1f}"
        for at, value in kept
    )
    return text, (low, high)
