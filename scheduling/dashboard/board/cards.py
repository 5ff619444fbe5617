"""Cards of the board: one portfolio with its marks and its message, if any."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from scheduling.dashboard.handoff_steps import progress_text
from scheduling.decide.process_exit import MAX_ATTEMPTS
from scheduling.observe.localized_reason import localized_reason
from scheduling.presentation.formatting import seconds_between, span, whole

if TYPE_CHECKING:
    from scheduling.observe.fleet_view.types import PortfolioView

GOOD_AFTER_S = 60.0  #: a revision is good after it ran for this long without a failure


@dataclass(frozen=True, slots=True)
class Message:
    """A sentence about something that is not normal, with its icon and tone."""

    text: str
    icon: str
    tone: str  #: info, warn, bad, ok or muted


@dataclass(frozen=True, slots=True)
class Card:
    """A portfolio as the board shows it, in the column of its node if it has one."""

    portfolio: PortfolioView
    node: str  #: the node whose column shows the card; empty if no column does
    message: Message | None
    marks: tuple[str, ...]  #: pinned, proving, stalled

    @property
    def collapsed_class(self) -> str:
        """Return the CSS class of the card in a collapsed column: trouble, moving or ""."""
        if "stalled" in self.marks or (self.message and self.message.tone == "bad"):
            return "trouble"
        return "moving" if self.portfolio.handoff else ""

    @property
    def is_canary(self) -> bool:
        return self.portfolio.strategy == "canary"

    @property
    def canary_clean(self) -> bool | None:
        """Return whether the canary saw neither a gap nor a duplicate; None if that is unknown."""
        counts = self.portfolio.state.get("gaps"), self.portfolio.state.get("duplicates")
        return None if None in counts else not any(counts)

    @property
    def pnl(self) -> Any:
        """Return the profit or loss at the last commit; None before the first commit."""
        return self.portfolio.account.get("pnl")


def build_card(portfolio: PortfolioView, node: str, now: datetime, good_after_s: float) -> Card:
    """Return the card of the portfolio in the column of `node`, "" if no column shows it."""
    marks = []
    if portfolio.pinned_node:
        marks.append("pinned")
    if _is_proving(portfolio):
        marks.append("proving")
    if portfolio.stalled:
        marks.append("stalled")
    return Card(portfolio, node, card_message(portfolio, now, good_after_s), tuple(marks))


def _is_proving(portfolio: PortfolioView) -> bool:
    """Return whether the revision of the portfolio has begun to run and is not good yet."""
    return portfolio.rev_left_s is not None and portfolio.rev_status == "unproven"


def card_message(
    portfolio: PortfolioView, now: datetime, good_after_s: float = GOOD_AFTER_S
) -> Message | None:
    """Return the first message below that applies, or None if everything is normal."""
    if portfolio.stalled:
        waiting = portfolio.lag_events
        text = ngettext(
            "stalled %(time)s: no progress while %(number)s event waits",
            "stalled %(time)s: no progress while %(number)s events wait",
            waiting,
        ) % {"time": span(portfolio.stalled_s), "number": whole(waiting)}
        return Message(text, "i-stall", "bad")
    if portfolio.handoff is not None:
        return Message(progress_text(portfolio.handoff, now), "i-swap", "info")
    if portfolio.reason and portfolio.phase != "running":
        return Message(localized_reason(portfolio), "i-warn", "warn")
    if portfolio.attempts:
        failed = ngettext(
            "%(number)s attempt of %(limit)s failed",
            "%(number)s attempts of %(limit)s failed",
            portfolio.attempts,
        ) % {"number": portfolio.attempts, "limit": MAX_ATTEMPTS}
        return Message(localized_reason(portfolio) or failed, "i-warn", "warn")
    if portfolio.phase == "starting":
        return Message(_("waiting for its first commit"), "p-starting", "info")
    if portfolio.suspect:
        ago = span(seconds_between(portfolio.last_commit_at, now))
        figures = {"node": portfolio.node, "ago": ago}
        text = _("%(node)s is suspect; last commit %(ago)s ago") % figures
        return Message(text, "i-warn", "warn")
    if portfolio.unplaced_orders:
        return Message(unplaced_text(portfolio), "i-warn", "warn")
    if portfolio.node and portfolio.running_revision not in (None, portfolio.revision):
        numbers = {"wanted": portfolio.revision, "running": portfolio.running_revision}
        text = _("r%(wanted)s is wanted, r%(running)s is running") % numbers
        return Message(text, "i-warn", "warn")
    if _is_proving(portfolio):
        return Message(_proof_text(portfolio, good_after_s), "i-proof", "info")
    return None


def _proof_text(portfolio: PortfolioView, good_after_s: float) -> str:
    """Return what the running revision still needs to be good: time, then a commit."""
    left_s = portfolio.rev_left_s or 0.0
    figures = {
        "number": portfolio.running_revision or portfolio.revision,
        "healthy": f"{max(good_after_s - left_s, 0):.0f}",
        "limit": f"{good_after_s:g}",
    }
    if left_s:
        return _("r%(number)s not yet good, %(healthy)s of %(limit)s s") % figures
    if portfolio.lag_events:
        return _("r%(number)s not yet good: it ran %(limit)s s and now has to commit") % figures
    text = _("r%(number)s not yet good: it ran %(limit)s s; the next event of its feed decides")
    return text % figures


def unplaced_text(portfolio: PortfolioView) -> str:
    """Return how many orders were refused or suppressed since the last one that was placed."""
    return ngettext(
        "%(number)s order refused or suppressed, none placed since",
        "%(number)s orders refused or suppressed, none placed since",
        portfolio.unplaced_orders,
    ) % {"number": whole(portfolio.unplaced_orders)}


def lag_text(lag_events: int, rate: float) -> str:
    """Return the lag as time at the feed's rate, such as `0.46 s`; empty if the feed has none."""
    if not rate:
        return ""
    seconds = lag_events / rate
    return span(seconds) if seconds >= 10 else _("%(number)s s") % {"number": f"{seconds:.2f}"}
