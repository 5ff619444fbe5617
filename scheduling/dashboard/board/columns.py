"""Columns of the board: one node with its cards, reserved slots, load and messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from scheduling.dashboard.board.cards import Card, Message
from scheduling.dashboard.handoff_steps import state_text
from scheduling.dashboard.whatif import is_stale, loss_tag
from scheduling.observe.localized_reason import localized_reason
from scheduling.presentation.formatting import clock, counted, places

if TYPE_CHECKING:
    from scheduling.observe.fleet_view import FleetView, NodeView, PortfolioView
    from scheduling.observe.node_losses import MoveView, NodeLossView


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


def display_status(node: NodeView) -> str:
    """Return the status shown for a node: `draining` only if the node is otherwise alive."""
    if node.status == "alive" and (node.draining or node.leaving):
        return "draining"
    return node.status


def build_slot(portfolio: PortfolioView) -> ReservedSlot:
    handoff = portfolio.handoff
    assert handoff is not None
    state = state_text(handoff.state)
    text = f"from {handoff.source_node}, {state}" if handoff.source_node else f"place, {state}"
    return ReservedSlot(portfolio.name, portfolio.weight, text)


def build_column(
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
