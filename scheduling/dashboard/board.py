"""Arrange one fleet snapshot as the board: columns, cards, rows and their sentences. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from scheduling.dashboard.handoff_steps import (
    HandoffStep,
    build_steps,
    kind_text,
    progress_text,
    reason_text,
    state_text,
)
from scheduling.dashboard.whatif import is_stale, loss_tag
from scheduling.observe.localized_reason import localized_reason
from scheduling.presentation.formatting import clock, counted, places, seconds_between, span, whole

if TYPE_CHECKING:
    from scheduling.observe.fleet_view import FleetView, HandoffView, NodeView, PortfolioView
    from scheduling.observe.node_losses import MoveView, NodeLossView

GOOD_AFTER_S = 60.0  #: a revision is good after this many healthy seconds
MAX_RUNNING_ROWS = 20  #: of handoffs; the rest is one link
MAX_UNASSIGNED_ROWS = 5  #: the rest is one link
MAX_RECENT_ROWS = 12
MAX_TARGETS = 3  #: named in the row of a loss; the rest is counted
PHASES = ("running", "starting", "draining", "pending", "halted", "quarantined", "stopped")
#: Phase of an unassigned portfolio → verbs of the actions that can help.
_ACTIONS_BY_PHASE = {
    "pending": ("edit", "stop"),
    "halted": ("start",),
    "quarantined": ("start", "reload"),
}


@dataclass(frozen=True, slots=True)
class Message:
    """A sentence about something that is not normal, with its icon and tone."""

    text: str
    icon: str
    tone: str  #: info, warn, bad, ok or muted


@dataclass(frozen=True, slots=True)
class Card:
    """A portfolio shown in the column of its node."""

    portfolio: PortfolioView
    node: str  #: whose column shows it; empty if none does
    message: Message | None
    marks: tuple[str, ...]  #: pinned, proving, stalled

    @property
    def collapsed_class(self) -> str:
        """Return the CSS class of the card in a collapsed column: moving, trouble or none."""
        if "stalled" in self.marks or (self.message and self.message.tone == "bad"):
            return "trouble"
        return "moving" if self.portfolio.handoff else ""

    @property
    def is_canary(self) -> bool:
        return self.portfolio.strategy == "canary"

    @property
    def canary_clean(self) -> bool | None:
        """Return whether the canary saw neither a gap nor a duplicate; None if that is unknown."""
        state = self.portfolio.state or {}
        counts = state.get("gaps"), state.get("duplicates")
        return None if None in counts else not any(counts)

    @property
    def pnl(self) -> Any:
        return (self.portfolio.account or {}).get("pnl")


@dataclass(frozen=True, slots=True)
class ReservedSlot:
    """The capacity that a handoff reserves on its target."""

    portfolio: str
    weight: float
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """A node with its cards, reserved slots, lease and load."""

    node: NodeView
    status: str
    cards: tuple[Card, ...]
    reserved: tuple[ReservedSlot, ...]
    used: float
    held: float
    status_line: Message | None
    loss: Message | None  #: shown if `status_line` is None; links to the what-if page
    trouble_rank: str  #: sort key of columns in trouble; empty if there is none
    moved_away: tuple[MoveView, ...] = ()
    moved_more: int = 0  #: beside those of `moved_away`
    note: str = ""

    @property
    def load(self) -> float:
        return self.used + self.held

    @property
    def load_text(self) -> str:
        text = f"load {places(self.load)} of {places(self.node.capacity)}"
        return f"{text}, {places(self.held)} of it reserved by handoffs" if self.held else text

    @property
    def cpu(self) -> Any:
        return (self.node.metrics or {}).get("cpu_pct") if self.has_metrics else None

    @property
    def memory(self) -> Any:
        return (self.node.metrics or {}).get("mem_pct") if self.has_metrics else None

    @property
    def has_metrics(self) -> bool:
        """Return whether the last reported metrics describe the node now: not if it is lost."""
        return self.status not in ("lost", "left")


@dataclass(frozen=True, slots=True)
class UnassignedRow:
    """A portfolio without an owner, with its reason and the actions that can help."""

    portfolio: PortfolioView
    label: str
    sentence: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunningRow:
    """A running handoff."""

    handoff: HandoffView
    kind_text: str
    reason_text: str
    steps: tuple[HandoffStep, ...]


@dataclass(frozen=True, slots=True)
class RecentRow:
    """An ended handoff, or the failovers of one loss of a node."""

    at: datetime | None
    name: str
    kind_text: str
    pause_ms: float | None
    tone: str
    source: str
    target: str
    reason_text: str
    id: int | None
    portfolio: str


@dataclass(frozen=True, slots=True)
class FleetCounts:
    """Counts of nodes and portfolios by state, and the load of the fleet."""

    nodes: int
    by_status: tuple[tuple[str, int], ...]
    portfolios: int
    by_phase: tuple[tuple[str, int], ...]
    load: float
    capacity: float


@dataclass(frozen=True, slots=True)
class AlertNotice:
    """An open alert that nothing else on the board shows."""

    portfolio: str | None
    sentence: str
    reason: str


@dataclass(frozen=True, slots=True)
class BoardPage:
    """Everything the board page shows, as of `fleet.at`."""

    fleet: FleetView
    columns: tuple[Column, ...]
    unassigned: tuple[UnassignedRow, ...]
    unassigned_more: int
    pending: int
    stopped_by_system: int
    stopped_manually: int
    running: tuple[RunningRow, ...]
    running_more: int
    recent: tuple[RecentRow, ...]
    counts: FleetCounts
    first_in_trouble: str = ""
    alerts: tuple[AlertNotice, ...] = ()
    elsewhere: tuple[Card, ...] = ()  #: cards of portfolios that no column shows


#: Alerts that columns, cards, unassigned rows and banners do not already show, with their labels.
ALERT_LABELS = {
    "revision_rejected": "revision rejected",
    "roll_out_stopped": "roll-out stopped",
    "verification_differs": "verification found a difference",
    "no_open_node": "no node accepts portfolios",
    "passes_stand": "no pass runs",
    "commits_stand": "no commit succeeds",
    "commits_vanished": "commits vanished",
    "behind": "portfolios lag",
    "orders_refused": "orders are refused",
    "disk_full": "the disk is full or nearly full",
    "snapshot_held": "a snapshot is held",
    "partition_missing": "a partition is missing",
    "table_growth": "the disk is filling up",
    "archived_unverified": "records were archived unverified",
    "feed_silent": "a feed is silent",
}


def column_of(portfolio: PortfolioView) -> tuple[str | None, str | None]:
    """Return the node whose column shows the card, and the node that reserves a slot for it.

    The card stays on the source until the handoff is done, even after the grant made the target
    its owner: a card never shows a move before the move has succeeded.
    """
    handoff = portfolio.handoff
    if handoff is None or handoff.target_node is None:
        return portfolio.node, None
    if handoff.source_node is not None and handoff.source_node != handoff.target_node:
        return handoff.source_node, handoff.target_node
    if portfolio.node is None:
        return None, handoff.target_node
    return portfolio.node, None


def build_board_page(fleet: FleetView, good_after_s: float = GOOD_AFTER_S) -> BoardPage:
    """Arrange the snapshot as the board page."""
    cards: dict[str, list[Card]] = {}
    reserved: dict[str, list[ReservedSlot]] = {}
    unassigned: list[PortfolioView] = []
    elsewhere: list[Card] = []
    stopped_manually = 0
    for portfolio in fleet.portfolios:
        owner, target = column_of(portfolio)
        if target is not None:
            reserved.setdefault(target, []).append(_reserved_slot(portfolio))
        card = _card(portfolio, owner or "", fleet.at, good_after_s)
        if owner is not None:
            cards.setdefault(owner, []).append(card)
            continue
        elsewhere.append(card)
        if portfolio.phase == "stopped":
            stopped_manually += 1
        else:
            unassigned.append(portfolio)
    columns = tuple(
        _column(node, tuple(cards.get(node.name, ())), tuple(reserved.get(node.name, ())), fleet)
        for node in fleet.nodes
        if node.status != "left" or node.name in cards or node.name in reserved
    )
    waiting = sorted(unassigned, key=lambda p: (PHASES.index(p.phase), p.name))
    in_trouble = sorted((c for c in columns if c.trouble_rank), key=lambda c: c.trouble_rank)
    return BoardPage(
        fleet=fleet,
        columns=columns,
        unassigned=tuple(_unassigned_row(p, fleet.at) for p in waiting[:MAX_UNASSIGNED_ROWS]),
        unassigned_more=max(len(waiting) - MAX_UNASSIGNED_ROWS, 0),
        pending=sum(p.phase not in ("halted", "quarantined") for p in waiting),
        stopped_by_system=sum(p.phase in ("halted", "quarantined") for p in waiting),
        stopped_manually=stopped_manually,
        running=tuple(_running_row(h, fleet.at) for h in fleet.handoffs_active[:MAX_RUNNING_ROWS]),
        running_more=max(len(fleet.handoffs_active) - MAX_RUNNING_ROWS, 0),
        recent=recent_rows(fleet.handoffs_single, fleet.losses),
        counts=_fleet_counts(fleet, columns),
        first_in_trouble=in_trouble[0].node.name if in_trouble else "",
        alerts=tuple(
            AlertNotice(alert.portfolio, ALERT_LABELS[alert.kind], alert.reason)
            for alert in fleet.alerts
            if alert.kind in ALERT_LABELS
        ),
        elsewhere=tuple(elsewhere),
    )


def display_status(node: NodeView) -> str:
    """Return the status shown for a node: `draining` only if the node is otherwise alive."""
    if node.status == "alive" and (node.draining or node.leaving):
        return "draining"
    return node.status


def _card(portfolio: PortfolioView, node: str, now: datetime, good_after_s: float) -> Card:
    marks = []
    if portfolio.pinned_node:
        marks.append("pinned")
    if _is_proving(portfolio):
        marks.append("proving")
    if portfolio.stalled:
        marks.append("stalled")
    return Card(portfolio, node, card_message(portfolio, now, good_after_s), tuple(marks))


def _is_proving(portfolio: PortfolioView) -> bool:
    return portfolio.rev_left_s is not None and portfolio.rev_status == "unproven"


def card_message(
    portfolio: PortfolioView, now: datetime, good_after_s: float = GOOD_AFTER_S
) -> Message | None:
    """Return the most severe message about the portfolio, or None if everything is normal."""
    if portfolio.stalled:
        waiting = counted(portfolio.lag_events or 0, "event")
        verb = "waits" if portfolio.lag_events == 1 else "wait"
        text = f"stalled {span(portfolio.stalled_s)}: no progress while {waiting} {verb}"
        return Message(text, "i-stall", "bad")
    if portfolio.handoff is not None:
        return Message(progress_text(portfolio.handoff, now), "i-swap", "info")
    if portfolio.reason and portfolio.phase != "running":
        return Message(localized_reason(portfolio), "i-warn", "warn")
    if portfolio.attempts:
        text = (
            localized_reason(portfolio) or f"{counted(portfolio.attempts, 'attempt')} of 5 failed"
        )
        return Message(text, "i-warn", "warn")
    if portfolio.phase == "starting":
        return Message("waiting for its first commit", "p-starting", "info")
    if portfolio.suspect:
        ago = span(seconds_between(portfolio.last_commit_at, now))
        figures = {"node": portfolio.node, "ago": ago}
        return Message(
            _("%(node)s is suspect; last commit %(ago)s ago") % figures, "i-warn", "warn"
        )
    if portfolio.unplaced_orders:
        return Message(unplaced_text(portfolio), "i-warn", "warn")
    if portfolio.running_revision != portfolio.revision:
        text = f"r{portfolio.revision} is wanted, r{portfolio.running_revision} is running"
        return Message(text, "i-warn", "warn")
    if _is_proving(portfolio):
        healthy = min(max(good_after_s - (portfolio.rev_left_s or 0), 0), good_after_s)
        number = portfolio.running_revision or portfolio.revision
        text = f"r{number} not yet good, {healthy:.0f} of {good_after_s:g} s"
        return Message(text, "i-proof", "info")
    return None


def unplaced_text(portfolio: PortfolioView) -> str:
    """Return how many orders were refused or suppressed since the last one that was placed."""
    return ngettext(
        "%(number)s order refused or suppressed, none placed since",
        "%(number)s orders refused or suppressed, none placed since",
        portfolio.unplaced_orders,
    ) % {"number": whole(portfolio.unplaced_orders)}


def _reserved_slot(portfolio: PortfolioView) -> ReservedSlot:
    handoff = portfolio.handoff
    assert handoff is not None
    state = state_text(handoff.state)
    text = f"from {handoff.source_node}, {state}" if handoff.source_node else f"place, {state}"
    return ReservedSlot(portfolio.name, portfolio.weight, text)


def _column(
    node: NodeView, cards: tuple[Card, ...], reserved: tuple[ReservedSlot, ...], fleet: FleetView
) -> Column:
    status = display_status(node)
    on = sum(card.portfolio.weight for card in cards)
    held = sum(slot.weight for slot in reserved)
    loss = next((x for x in fleet.losses if x.node == node.name and not x.is_over), None)
    moves = tuple(loss.moves) if loss and status == "lost" else ()
    order = {"suspect": "1", "lost": "2", "draining": "3"}.get(status, "")
    if not order and any(card.collapsed_class == "trouble" for card in cards):
        order = "4"
    fifth = _status_line(node, status, len(cards), fleet)
    return Column(
        node=node,
        status=status,
        cards=cards,
        reserved=reserved,
        used=on,
        held=held,
        status_line=fifth,
        loss=_loss_line(node, fleet.at) if fifth is None else None,
        trouble_rank=order,
        moved_away=moves,
        moved_more=loss.moved - len(moves) if loss and moves else 0,
        note=_lost_note(len(cards), loss) if status == "lost" else "",
    )


def lease_level(node: NodeView) -> str:
    """Return `ok`, `late` (a heartbeat is missing) or `out`.

    A healthy lease varies between the TTL and two thirds of it. One second of tolerance keeps a
    heartbeat in transit from showing as late.
    """
    left = node.lease_left_s
    if node.status == "lost" or left is None or left <= 0:
        return "out"
    return "late" if left < node.lease_ttl_s * 2 / 3 - 1 else "ok"


def _status_line(node: NodeView, status: str, cards: int, fleet: FleetView) -> Message | None:
    if status == "lost":
        since = f"lost since {clock(node.status_since)}"  # before its reason was stored
        return Message(localized_reason(node) or since, "i-warn", "bad")
    if status == "suspect":
        return Message(localized_reason(node), "i-warn", "warn")
    if status == "left":
        return Message(f"left at {clock(node.status_since)}", "i-warn", "warn")
    if status == "draining":
        if node.leaving and not node.draining:
            return Message("its daemon is shutting down", "i-swap", "info")
        text = f"drain by {node.drain_actor}" if node.drain_actor else "drain"
        text = f"{text}: {node.drain_reason}" if node.drain_reason else text
        return Message(text, "i-swap", "info")
    if fleet.halts and not cards:
        return Message(_("halted: nothing runs here"), "i-power", "bad")
    return None


def _loss_line(node: NodeView, now: datetime) -> Message | None:
    """Return whether the loss of the node would be absorbed; a stale forecast with its time."""
    if node.loss is None:
        return None
    absorbed = node.loss.absorbed
    text = f"loss absorbed: {loss_tag(node.loss)}" if absorbed else loss_tag(node.loss)
    if is_stale(node.loss.as_of, now):
        return Message(f"{text}, as of {clock(node.loss.as_of)}", "i-ask", "muted")
    return Message(text, "i-check" if absorbed else "i-warn", "ok" if absorbed else "warn")


def _lost_note(waiting: int, loss: NodeLossView | None) -> str:
    """Return what became of the portfolios that the node ran when it was lost."""
    moved = loss.moved if loss else 0
    ran = loss.portfolios if loss else None
    if ran is None:  # lost before the number was stored
        ran = moved + waiting
    if not ran and not moved and not waiting:
        return "It can no longer commit. It ran no portfolio."
    parts = []
    if moved:
        by = f" by {clock(loss.moved_at)}" if loss and loss.moved_at else ""
        parts.append(f"{places(moved)} {_was(moved)} placed elsewhere{by}")
    if waiting:
        parts.append(f"{places(waiting)} {'waits' if waiting == 1 else 'wait'} to be placed")
    others = ran - moved - waiting
    if others > 0:
        parts.append(f"{places(others)} {_was(others)} stopped or deleted")
    end = ":" if loss and loss.moves else "."
    return f"It can no longer commit. It ran {counted(ran, 'portfolio')}: {', '.join(parts)}{end}"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _unassigned_row(portfolio: PortfolioView, now: datetime) -> UnassignedRow:
    sentence = localized_reason(portfolio)
    if portfolio.handoff is not None:
        progress = progress_text(portfolio.handoff, now)
        sentence = f"{sentence}; {progress}" if sentence else progress
    elif not sentence:
        sentence = f"waiting since {clock(portfolio.phase_since)} for the next pass."
    actions = _ACTIONS_BY_PHASE.get(portfolio.phase, ("stop",))
    return UnassignedRow(
        portfolio,
        portfolio.phase.capitalize(),
        sentence,
        actions if portfolio.handoff is None else (),
    )


def _running_row(handoff: HandoffView, now: datetime) -> RunningRow:
    return RunningRow(
        handoff, kind_text(handoff), reason_text(handoff), tuple(build_steps(handoff, now))
    )


def recent_rows(
    handoffs: Iterable[HandoffView], losses: Iterable[NodeLossView] = ()
) -> tuple[RecentRow, ...]:
    """Return one row per ended handoff and one per loss of a node, newest first."""
    rows = [_recent_row(handoff) for handoff in handoffs]
    rows += [_loss_row(loss) for loss in losses if loss.moved]
    dated = [row for row in rows if row.at is not None]
    newest = sorted(dated, key=lambda row: row.at or datetime.min, reverse=True)
    return tuple(newest[:MAX_RECENT_ROWS])


def _loss_row(loss: NodeLossView) -> RecentRow:
    shown = loss.targets[:MAX_TARGETS]
    more = len(loss.targets) - len(shown)
    return RecentRow(
        at=loss.moved_at,
        name=loss.node,
        kind_text=counted(loss.moved, "failover"),
        pause_ms=loss.slowest_ms,
        tone="",
        source=loss.node,
        target=", ".join(shown) + (f" and {more} more" if more else ""),
        reason_text=localized_reason(loss),
        id=None,
        portfolio="",
    )


def _recent_row(handoff: HandoffView) -> RecentRow:
    failed = handoff.state in ("failed", "rolled_back")
    pause_ms = handoff.pause_ms
    if handoff.state == "failed" and pause_ms is None and handoff.source_node:
        pause_ms = 0.0  # the source never stopped
    same = handoff.source_node == handoff.target_node
    return RecentRow(
        at=handoff.finished_at,
        name=handoff.portfolio,
        kind_text=kind_text(handoff),
        pause_ms=pause_ms,
        tone="warn" if failed else "",
        source="" if same else handoff.source_node or "",
        target=handoff.target_node or "",
        reason_text=reason_text(handoff),
        id=handoff.id,
        portfolio=handoff.portfolio,
    )


def _fleet_counts(fleet: FleetView, columns: tuple[Column, ...]) -> FleetCounts:
    statuses = Counter(column.status for column in columns)
    phases = Counter(portfolio.phase for portfolio in fleet.portfolios)
    counted_in = [column for column in columns if column.status not in ("lost", "left")]
    return FleetCounts(
        nodes=len(columns),
        by_status=tuple(
            (s, statuses[s]) for s in ("alive", "draining", "suspect", "lost") if statuses[s]
        ),
        portfolios=len(fleet.portfolios),
        by_phase=tuple((p, phases[p]) for p in PHASES if phases[p]),
        load=sum(column.load for column in counted_in),
        capacity=sum(column.node.capacity for column in counted_in),
    )


def describe_changes(before: FleetView, after: FleetView) -> list[str]:
    """Describe the changes between two snapshots in short sentences for screen readers."""
    sentences = []
    old_nodes = {node.name: display_status(node) for node in before.nodes}
    for node in after.nodes:
        status = display_status(node)
        if node.name not in old_nodes:
            sentences.append(f"{node.name} joined")
        elif old_nodes[node.name] != status:
            sentences.append(f"{node.name} is {status}")
    active_before = {h.id for h in before.handoffs_active}
    sentences += [
        f"{h.portfolio}: {kind_text(h)} {'done' if h.state == 'done' else ''}".strip()
        for h in after.handoffs_recent
        if h.id in active_before
    ]
    old_phases = {p.name: p.phase for p in before.portfolios}
    sentences += [
        f"{p.name} is {p.phase}"
        for p in after.portfolios
        if p.phase in ("pending", "halted", "quarantined") and old_phases.get(p.name) != p.phase
    ]
    return sentences


def lag_text(lag_events: int | None, rate: float) -> str:
    """Return the lag as time at the feed's rate, such as `0.46 s`; empty if either is unknown."""
    if lag_events is None or not rate:
        return ""
    return span(lag_events / rate) if lag_events >= 10 * rate else f"{lag_events / rate:.2f} s"
