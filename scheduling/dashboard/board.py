"""From the one snapshot to what stands on the board: who sits where, what each thing says. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from scheduling.dashboard.handoff_steps import (
    Step,
    because,
    kind_words,
    progress_sentence,
    steps_of,
    word,
)
from scheduling.dashboard.whatif import is_old, loss_tag
from scheduling.observe.localized_reason import localized_reason
from scheduling.presentation.formatting import clock, counted, places, seconds_between, span

if TYPE_CHECKING:
    from scheduling.observe.fleet_view import FleetView, HandoffView, NodeView, PortfolioView

GOOD_AFTER_S = 60.0  #: a revision is good after so many healthy seconds
MAX_CELLS = 20  #: from there on a load is one bar, not a cell per place
NOWHERE_ROWS = 5  #: of the strip; the rest is one link
FAILOVERS_TOGETHER_S = 120  #: failovers of one node that ended within this are one row
PHASES = ("running", "starting", "draining", "pending", "halted", "quarantined", "stopped")
_HELPED_BY = {
    "pending": ("edit", "stop"),
    "halted": ("start",),
    "quarantined": ("start", "reload"),
}


@dataclass(frozen=True, slots=True)
class Message:
    """The one sentence of a card that is not quite normal."""

    text: str
    icon: str
    tone: str  #: act, warn or bad


@dataclass(frozen=True, slots=True)
class Card:
    """A portfolio in its column."""

    line: PortfolioView
    message: Message | None
    spark: str  #: points of a polyline in a box of 76 by 18
    spark_end: tuple[float, float] | None
    marks: tuple[str, ...]  #: pinned, proving, stalled

    @property
    def collapsed_class(self) -> str:
        """Return the card's colour in a closed column: m for moving, b for trouble."""
        if "stalled" in self.marks or (self.message and self.message.tone == "bad"):
            return "b"
        return "m" if self.line.handoff else ""

    @property
    def is_canary(self) -> bool:
        return self.line.strategy == "canary"

    @property
    def canary_clean(self) -> bool:
        state = self.line.state or {}
        return not state.get("gaps") and not state.get("duplicates")

    @property
    def pnl(self) -> Any:
        return (self.line.account or {}).get("pnl")


@dataclass(frozen=True, slots=True)
class ReservedSlot:
    """The place that a handoff holds on its target."""

    portfolio: str
    weight: float
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """A node with what it has."""

    line: NodeView
    status: str
    cards: tuple[Card, ...]
    ghosts: tuple[ReservedSlot, ...]
    cells: tuple[str, ...]  #: a class per place; empty where one bar tells more
    on: float
    held: float
    level: str  #: of the lease: ok, late, out
    fifth: Message | None
    loss: Message | None  #: where the fifth line says nothing else; a link to What if
    trouble: str
    moved_away: tuple[HandoffView, ...] = ()
    note: str = ""

    @property
    def load(self) -> float:
        return self.on + self.held

    @property
    def lease_width(self) -> float:
        """Return what is left of a bar of 300."""
        ttl = self.line.lease_ttl_s or 30
        return round(300 * min(max((self.line.lease_left_s or 0) / ttl, 0), 1), 1)

    @property
    def lease_seconds(self) -> int:
        """Return the whole seconds left, rounded up as a clock does."""
        return max(math.ceil(self.line.lease_left_s or 0), 0)

    @property
    def load_width(self) -> float:
        """Return the load in a bar of 100."""
        return round(100 * min(self.load / (self.line.capacity or 1), 1), 1)

    @property
    def chips(self) -> list[tuple[str, Any]]:
        """Return the labels that fit into a line: two."""
        return sorted((self.line.labels or {}).items())[:2]

    @property
    def load_words(self) -> str:
        words = f"load {places(self.load)} of {places(self.line.capacity)}"
        return f"{words}, {places(self.held)} of it held by a handoff" if self.held else words

    @property
    def cpu(self) -> Any:
        return (self.line.metrics or {}).get("cpu_pct") if self.has_figures else None

    @property
    def memory(self) -> Any:
        return (self.line.metrics or {}).get("mem_pct") if self.has_figures else None

    @property
    def has_figures(self) -> bool:
        """A lost node's last words are not its state."""
        return self.status not in ("lost", "left")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A portfolio that is nowhere, with its sentence and the acts that help."""

    line: PortfolioView
    label: str
    sentence: str
    acts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Running:
    """A handoff under way."""

    line: HandoffView
    kind: str
    by: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Recent:
    """A handoff that ended, or all failovers of one node."""

    at: datetime | None
    name: str
    kind: str
    pause_ms: float | None
    tone: str
    source: str
    target: str
    sentence: str
    id: int | None
    portfolio: str


@dataclass(frozen=True, slots=True)
class FleetCounts:
    """The line of counts."""

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
    """All that the board page shows, as of `board.at`."""

    board: FleetView
    columns: tuple[Column, ...]
    nowhere: tuple[Waiting, ...]
    nowhere_more: int
    pending: int
    system_stopped: int
    stopped: int
    running: tuple[Running, ...]
    recent: tuple[Recent, ...]
    fleet: FleetCounts
    first_open: str = field(default="")
    told: tuple[AlertNotice, ...] = ()


#: Alerts whose cause has no place of its own: columns, cards, strip and banners say the others.
SAID_NOWHERE_ELSE = {
    "revision_rejected": "revision rejected",
    "verification_differs": "verification found a difference",
    "no_open_node": "no node takes a portfolio",
    "passes_stand": "no pass runs",
    "commits_stand": "no commit gets through",
    "commits_vanished": "commits vanished",
    "behind": "portfolios lag",
    "orders_refused": "no order is placed",
    "disk_full": "the disk is full or nearly so",
    "snapshot_held": "a snapshot is held",
    "partition_missing": "a partition is missing",
    "table_growth": "the disk fills",
    "archived_unverified": "records were archived unverified",
}


def column_of(portfolio: PortfolioView) -> tuple[str | None, str | None]:
    """Return the node in whose column the card stands, and the one that holds a place for it.

    The card stays on the source until the handoff is done, also when the grant already made the
    target its owner: nothing jumps before it is true.
    """
    handoff = portfolio.handoff
    if handoff is None or handoff.target_node is None:
        return portfolio.node, None
    if handoff.source_node is not None and handoff.source_node != handoff.target_node:
        return handoff.source_node, handoff.target_node
    if portfolio.node is None:
        return None, handoff.target_node
    return portfolio.node, None


def build_desk(board: FleetView, good_after_s: float = GOOD_AFTER_S) -> BoardPage:
    """Return what stands on the board."""
    cards: dict[str, list[Card]] = {}
    ghosts: dict[str, list[ReservedSlot]] = {}
    nowhere: list[PortfolioView] = []
    stopped = 0
    for portfolio in board.portfolios:
        seat, ghost = column_of(portfolio)
        if ghost is not None:
            ghosts.setdefault(ghost, []).append(_ghost(portfolio))
        if seat is not None:
            cards.setdefault(seat, []).append(_card(portfolio, board.at, good_after_s))
        elif portfolio.phase == "stopped":
            stopped += 1
        else:
            nowhere.append(portfolio)
    columns = tuple(
        _column(node, tuple(cards.get(node.name, ())), tuple(ghosts.get(node.name, ())), board)
        for node in board.nodes
        if node.status != "left" or node.name in cards or node.name in ghosts
    )
    waiting = sorted(nowhere, key=lambda p: (PHASES.index(p.phase), p.name))
    in_trouble = sorted((c for c in columns if c.trouble), key=lambda c: c.trouble)
    return BoardPage(
        board=board,
        columns=columns,
        nowhere=tuple(_waiting(p, board.at) for p in waiting[:NOWHERE_ROWS]),
        nowhere_more=max(len(waiting) - NOWHERE_ROWS, 0),
        pending=sum(p.phase not in ("halted", "quarantined") for p in waiting),
        system_stopped=sum(p.phase in ("halted", "quarantined") for p in waiting),
        stopped=stopped,
        running=tuple(_running(h, board.at) for h in board.handoffs_active),
        recent=recent_rows(board.handoffs_recent),
        fleet=_fleet(board, columns),
        first_open=in_trouble[0].line.name if in_trouble else "",
        told=tuple(
            AlertNotice(alert.portfolio, SAID_NOWHERE_ELSE[alert.kind], alert.reason)
            for alert in board.alerts
            if alert.kind in SAID_NOWHERE_ELSE
        ),
    )


def shown_status(node: NodeView) -> str:
    """Return the status that a column wears: draining only where nothing is worse."""
    if node.status == "alive" and (node.draining or node.leaving):
        return "draining"
    return node.status


def _card(line: PortfolioView, now: datetime, good_after_s: float) -> Card:
    points, end = spark_points(line.spark)
    marks = []
    if line.pinned_node:
        marks.append("pinned")
    if _is_proving(line):
        marks.append("proving")
    if line.stalled:
        marks.append("stalled")
    return Card(line, card_message(line, now, good_after_s), points, end, tuple(marks))


def _is_proving(line: PortfolioView) -> bool:
    return line.rev_left_s is not None and line.rev_status == "unproven"


def card_message(
    line: PortfolioView, now: datetime, good_after_s: float = GOOD_AFTER_S
) -> Message | None:
    """Return the card's sentence, the gravest first, or None where all is normal."""
    if line.stalled:
        waiting = counted(line.lag_events or 0, "event")
        verb = "waits" if line.lag_events == 1 else "wait"
        text = f"stalled {span(line.stalled_s)}: no progress while {waiting} {verb}"
        return Message(text, "i-stall", "bad")
    if line.handoff is not None:
        return Message(progress_sentence(line.handoff, now), "i-swap", "act")
    if line.reason and line.phase != "running":
        return Message(localized_reason(line), "i-warn", "warn")
    if line.attempts:
        text = localized_reason(line) or f"{counted(line.attempts, 'attempt')} of 5 ended early"
        return Message(text, "i-warn", "warn")
    if line.phase == "starting":
        return Message("waits for its first commit", "p-starting", "act")
    if line.running_revision != line.revision:
        text = f"r{line.revision} is wanted, r{line.running_revision} runs"
        return Message(text, "i-warn", "warn")
    if _is_proving(line):
        healthy = min(max(good_after_s - (line.rev_left_s or 0), 0), good_after_s)
        number = line.running_revision or line.revision
        text = f"r{number} not yet good, {healthy:.0f} of {good_after_s:g} s"
        return Message(text, "i-proof", "act")
    return None


def spark_points(
    values: Iterable[float], width: float = 76, height: float = 18, margin: float = 2
) -> tuple[str, tuple[float, float] | None]:
    """Return a polyline's points through `values` and where it ends; of fewer than two, nothing."""
    numbers = list(values or ())
    if len(numbers) < 2:
        return "", None
    low, high = min(numbers), max(numbers)
    across = (width - 2 * margin) / (len(numbers) - 1)
    up = (height - 2 * margin) / (high - low) if high > low else 0.0
    middle = height / 2
    points = [
        (
            round(margin + i * across, 1),
            round(height - margin - (v - low) * up if up else middle, 1),
        )
        for i, v in enumerate(numbers)
    ]
    return " ".join(f"{x},{y}" for x, y in points), points[-1]


def _ghost(line: PortfolioView) -> ReservedSlot:
    handoff = line.handoff
    assert handoff is not None
    state = word(handoff.state)
    text = f"from {handoff.source_node}, {state}" if handoff.source_node else f"place, {state}"
    return ReservedSlot(line.name, line.weight, text)


def _column(
    node: NodeView, cards: tuple[Card, ...], ghosts: tuple[ReservedSlot, ...], board: FleetView
) -> Column:
    status = shown_status(node)
    on = sum(card.line.weight for card in cards)
    held = sum(ghost.weight for ghost in ghosts)
    moved = _failed_over_from(node, board) if status == "lost" else ()
    order = {"suspect": "1", "lost": "2", "draining": "3"}.get(status, "")
    if not order and any(card.collapsed_class == "b" for card in cards):
        order = "4"
    fifth = _fifth_line(node, status, len(cards), board.at)
    return Column(
        line=node,
        status=status,
        cards=cards,
        ghosts=ghosts,
        cells=_cells(node.capacity, cards, ghosts),
        on=on,
        held=held,
        level=lease_level(node),
        fifth=fifth,
        loss=_loss_line(node, board.at) if fifth is None else None,
        trouble=order,
        moved_away=moved,
        note=_lost_note(cards, moved) if status == "lost" else "",
    )


def _cells(
    capacity: float, cards: tuple[Card, ...], ghosts: tuple[ReservedSlot, ...]
) -> tuple[str, ...]:
    if capacity > MAX_CELLS:
        return ()
    cells: list[str] = []
    for card in cards:
        cells += ["on", *["on w"] * (int(card.line.weight) - 1)]
    for ghost in ghosts:
        cells += ["res"] * int(ghost.weight)
    return tuple((cells + [""] * int(capacity))[: max(int(capacity), len(cells))])


def lease_level(node: NodeView) -> str:
    """Return ok, late (a beat is missing) or out.

    A healthy lease swings between TTL and two thirds of it; the second on top keeps a beat that is
    merely on its way from flashing amber.
    """
    left = node.lease_left_s
    if node.status == "lost" or left is None or left <= 0:
        return "out"
    return "late" if left < node.lease_ttl_s * 2 / 3 - 1 else "ok"


def _fifth_line(node: NodeView, status: str, cards: int, now: datetime) -> Message | None:
    limit = f"limit {node.lease_ttl_s:g} s"
    if status == "lost":
        silent = seconds_between(node.last_heartbeat_at, node.status_since)
        if silent is None:
            return Message(f"lost since {clock(node.status_since)}", "i-warn", "bad")
        return Message(f"{silent:.0f} s without a beat, {limit}", "i-warn", "bad")
    if status == "suspect":
        silent = seconds_between(node.last_heartbeat_at, now)
        return Message(f"last beat {span(silent)} ago, {limit}", "i-warn", "warn")
    if status == "left":
        return Message(f"left at {clock(node.status_since)}", "i-warn", "warn")
    if status == "draining":
        if node.leaving and not node.draining:
            return Message("its daemon was asked to stop", "i-swap", "act")
        said = " ".join(
            filter(None, ["drain", f"by {node.drain_actor}" if node.drain_actor else ""])
        )
        return Message(
            f"{said}: {node.drain_reason}" if node.drain_reason else said, "i-swap", "act"
        )
    return None


def _loss_line(node: NodeView, now: datetime) -> Message | None:
    """Return whether its loss would be absorbed; an old answer with the time it was true."""
    if node.loss is None:
        return None
    absorbed = node.loss.absorbed
    text = f"loss absorbed: {loss_tag(node.loss)}" if absorbed else loss_tag(node.loss)
    if is_old(node.loss.as_of, now):
        return Message(f"{text}, as of {clock(node.loss.as_of)}", "i-ask", "muted")
    return Message(text, "i-check" if absorbed else "i-warn", "ok" if absorbed else "warn")


def _failed_over_from(node: NodeView, board: FleetView) -> tuple[HandoffView, ...]:
    return tuple(
        h
        for h in board.handoffs_recent
        if h.kind == "failover"
        and h.source_node == node.name
        and h.state == "done"
        and h.requested_at >= node.status_since
    )


def _lost_note(cards: tuple[Card, ...], moved: tuple[HandoffView, ...]) -> str:
    if moved:
        ended = max((h.finished_at for h in moved if h.finished_at), default=None)
        what = f"{counted(len(moved), 'portfolio')} {'was' if len(moved) == 1 else 'were'}"
        by = f" by {clock(ended)}" if ended else ""
        return f"It cannot commit any more. {what} placed elsewhere{by}:"
    if cards:
        return "Its lease has ended. What stands here waits to be placed elsewhere."
    return "It cannot commit any more. Nothing ran here."


def _waiting(line: PortfolioView, now: datetime) -> Waiting:
    sentence = localized_reason(line)
    if line.handoff is not None:
        progress = progress_sentence(line.handoff, now)
        sentence = f"{sentence}; {progress}" if sentence else progress
    elif not sentence:
        sentence = f"waits since {clock(line.phase_since)} for the next pass."
    acts = _HELPED_BY.get(line.phase, ("stop",))
    return Waiting(line, line.phase.capitalize(), sentence, acts if line.handoff is None else ())


def _running(handoff: HandoffView, now: datetime) -> Running:
    return Running(handoff, kind_words(handoff), because(handoff), tuple(steps_of(handoff, now)))


def recent_rows(handoffs: Iterable[HandoffView]) -> tuple[Recent, ...]:
    """Return a row for each ended handoff, newest first; failovers of one node share one."""
    rows: list[Recent] = []
    group: list[HandoffView] = []

    def close_group() -> None:
        if len(group) > 1:
            rows.append(_failovers(group))
        elif group:
            rows.append(_ended(group[0]))
        group.clear()

    for handoff in handoffs:
        fits = handoff.kind == "failover" and handoff.state == "done"
        if group and not (fits and _same_loss(group[0], handoff)):
            close_group()
        if fits:
            group.append(handoff)
        else:
            rows.append(_ended(handoff))
    close_group()
    return tuple(rows)


def _same_loss(first: HandoffView, other: HandoffView) -> bool:
    apart = seconds_between(other.requested_at, first.requested_at)
    return (
        first.source_node == other.source_node
        and apart is not None
        and abs(apart) < FAILOVERS_TOGETHER_S
    )


def _failovers(group: list[HandoffView]) -> Recent:
    pauses = [h.pause_ms for h in group if h.pause_ms is not None]
    return Recent(
        at=group[0].finished_at,
        name=group[0].source_node or "",
        kind=f"{len(group)} failovers",
        pause_ms=max(pauses) if pauses else None,
        tone="",
        source=group[0].source_node or "",
        target=", ".join(sorted({h.target_node for h in group if h.target_node})),
        sentence=because(group[0]),
        id=None,
        portfolio="",
    )


def _ended(handoff: HandoffView) -> Recent:
    failed = handoff.state in ("failed", "rolled_back")
    pause_ms = handoff.pause_ms
    if handoff.state == "failed" and pause_ms is None and handoff.source_node:
        pause_ms = 0.0  # the source never stopped
    same = handoff.source_node == handoff.target_node
    return Recent(
        at=handoff.finished_at,
        name=handoff.portfolio,
        kind=kind_words(handoff),
        pause_ms=pause_ms,
        tone="warn" if failed else "",
        source="" if same else handoff.source_node or "",
        target=handoff.target_node or "",
        sentence=because(handoff),
        id=handoff.id,
        portfolio=handoff.portfolio,
    )


def _fleet(board: FleetView, columns: tuple[Column, ...]) -> FleetCounts:
    statuses = Counter(column.status for column in columns)
    phases = Counter(portfolio.phase for portfolio in board.portfolios)
    counted_in = [column for column in columns if column.status not in ("lost", "left")]
    return FleetCounts(
        nodes=len(columns),
        by_status=tuple(
            (s, statuses[s]) for s in ("alive", "draining", "suspect", "lost") if statuses[s]
        ),
        portfolios=len(board.portfolios),
        by_phase=tuple((p, phases[p]) for p in PHASES if phases[p]),
        load=sum(column.load for column in counted_in),
        capacity=sum(column.line.capacity for column in counted_in),
    )


def changes(before: FleetView, after: FleetView) -> list[str]:
    """Return what happened between two snapshots, a short sentence each, for the ear."""
    said = []
    old_nodes = {node.name: shown_status(node) for node in before.nodes}
    for node in after.nodes:
        status = shown_status(node)
        if node.name not in old_nodes:
            said.append(f"{node.name} joined")
        elif old_nodes[node.name] != status:
            said.append(f"{node.name} is {status}")
    active_before = {h.id for h in before.handoffs_active}
    said += [
        f"{h.portfolio}: {kind_words(h)} {'done' if h.state == 'done' else ''}".strip()
        for h in after.handoffs_recent
        if h.id in active_before
    ]
    old_phases = {p.name: p.phase for p in before.portfolios}
    said += [
        f"{p.name} is {p.phase}"
        for p in after.portfolios
        if p.phase in ("pending", "halted", "quarantined") and old_phases.get(p.name) != p.phase
    ]
    return said


def lag_seconds(lag_events: int | None, rate: float) -> str:
    """Return how old a lag is, `0.46 s`, at the feed's rate; nothing where either is unknown."""
    if lag_events is None or not rate:
        return ""
    return span(lag_events / rate) if lag_events >= 10 * rate else f"{lag_events / rate:.2f} s"
