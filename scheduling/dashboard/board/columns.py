"""Columns of the board: one node with its cards, reserved slots, load and messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from scheduling.dashboard.board.cards import Card, Message
from scheduling.dashboard.handoff_steps import state_text
from scheduling.dashboard.whatif import is_stale, loss_tag
from scheduling.observe.localized_reason import localized_reason
from scheduling.presentation.formatting import because, clock, joined, places, whole
from scheduling.presentation.state_words import state_word

if TYPE_CHECKING:
    from scheduling.observe.fleet_view.types import FleetView, NodeView, PortfolioView
    from scheduling.observe.node_losses import MoveView, NodeLossView


#: Status → sort key of a column in trouble. A link of the board leads to the lowest one.
_RANK_OF_STATUS = {"suspect": "1", "lost": "2", "draining": "3"}
_RANK_OF_CARDS = "4"  #: the key of a column in trouble only because one of its cards is


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
    used: float  #: weight of the cards
    held: float  #: weight of the reserved slots
    status_line: Message | None
    forecast: Message | None  #: the node-loss forecast, shown if there is no `status_line`
    trouble_rank: str  #: sort key of a column in trouble; empty for any other
    moved_away: tuple[MoveView, ...] = ()
    moved_more: int = 0  #: moves that `moved_away` leaves out
    note: str = ""  #: what became of the portfolios of a lost node

    @property
    def load(self) -> float:
        """Return the weight of the cards and of the slots that handoffs reserve."""
        return self.used + self.held

    @property
    def load_text(self) -> str:
        """Return the load for screen readers: `load 5 of 8, 2 of it reserved by handoffs`."""
        figures = {"load": places(self.load), "all": places(self.node.capacity)}
        text = _("load %(load)s of %(all)s") % figures
        held = _("%(held)s of it reserved by handoffs") % {"held": places(self.held)}
        return joined([text, held]) if self.held else text

    @property
    def cpu(self) -> Any:
        """Return the CPU use of the node's machine in per cent; None if unknown now."""
        return self.node.metrics.get("cpu_pct") if self.has_metrics else None

    @property
    def memory(self) -> Any:
        """Return the memory use of the node's machine in per cent; None if unknown now."""
        return self.node.metrics.get("mem_pct") if self.has_metrics else None

    @property
    def has_metrics(self) -> bool:
        """Return whether the last metrics describe the node now: not if it is lost or has left."""
        return self.status not in ("lost", "left")


def display_status(node: NodeView) -> str:
    """Return the status shown for a node: `draining` for an alive one that drains or leaves."""
    if node.status == "alive" and (node.draining or node.leaving):
        return "draining"
    return node.status


def build_slot(portfolio: PortfolioView) -> ReservedSlot:
    """Return the slot that the handoff of the portfolio reserves on the target."""
    handoff = portfolio.handoff
    assert handoff is not None, f"{portfolio.name} is in no handoff, so nothing is reserved for it"
    source = {"node": handoff.source_node}
    origin = _("from %(node)s") % source if handoff.source_node else state_word("place")
    text = joined([origin, state_text(handoff.state)])
    return ReservedSlot(portfolio.name, portfolio.weight, text)


def build_column(
    node: NodeView, cards: tuple[Card, ...], reserved: tuple[ReservedSlot, ...], fleet: FleetView
) -> Column:
    """Return the column of the node; if it is lost, with what became of its portfolios."""
    status = display_status(node)
    losses = (each for each in fleet.losses if each.node == node.name and not each.is_over)
    loss = next(losses, None) if status == "lost" else None
    moves = tuple(loss.moves) if loss else ()
    trouble_rank = _RANK_OF_STATUS.get(status, "")
    if not trouble_rank and any(card.collapsed_class == "trouble" for card in cards):
        trouble_rank = _RANK_OF_CARDS
    status_line = _status_line(node, status, len(cards), fleet)
    return Column(
        node=node,
        status=status,
        cards=cards,
        reserved=reserved,
        used=sum(card.portfolio.weight for card in cards),
        held=sum(slot.weight for slot in reserved),
        status_line=status_line,
        forecast=_forecast_line(node, fleet.at) if status_line is None else None,
        trouble_rank=trouble_rank,
        moved_away=moves,
        moved_more=loss.moved - len(moves) if loss and moves else 0,
        note=_lost_note(len(cards), loss) if status == "lost" else "",
    )


def lease_level(node: NodeView) -> str:
    """Return `ok`, `late` (a heartbeat is missing) or `out` (expired, or there is no lease).

    A heartbeat renews the lease after a third of its TTL, so that two thirds are left at least; one
    second is for a heartbeat in transit.
    """
    left_s = node.lease_left_s
    if node.status == "lost" or left_s is None or left_s <= 0:
        return "out"
    return "late" if left_s < node.lease_ttl_s * 2 / 3 - 1 else "ok"


def _status_line(node: NodeView, status: str, cards: int, fleet: FleetView) -> Message | None:
    """Return what is most unusual about the node, which shows `cards` cards; None if nothing is."""
    if status == "lost":
        # Without a reason: it was lost before reasons were stored.
        since = _("lost since %(at)s") % {"at": clock(node.status_since)}
        return Message(localized_reason(node) or since, "i-warn", "bad")
    if status == "suspect":
        return Message(localized_reason(node), "i-warn", "warn")
    if status == "left":
        return Message(_("left at %(at)s") % {"at": clock(node.status_since)}, "i-warn", "warn")
    if status == "draining":
        if node.leaving and not node.draining:
            return Message(_("its daemon is shutting down"), "i-swap", "info")
        # On the page of the node `why` is the reason; here the reason follows the sentence.
        names = {"by": node.drain_actor, "why": ""}
        text = _("drain by %(by)s%(why)s") % names if node.drain_actor else _("drain")
        return Message(because(text, node.drain_reason), "i-swap", "info")
    if fleet.halts and not cards:
        return Message(_("halted: nothing runs here"), "i-power", "bad")
    return None


def _forecast_line(node: NodeView, now: datetime) -> Message | None:
    """Return the node-loss forecast, an old one with its time; None without a forecast."""
    if node.loss is None:
        return None
    absorbed, tag = node.loss.absorbed, loss_tag(node.loss)
    text = because(_("loss absorbed"), tag) if absorbed else tag
    if is_stale(node.loss.as_of, now):
        at = _("as of %(at)s") % {"at": clock(node.loss.as_of)}
        return Message(joined([text, at]), "i-ask", "muted")
    return Message(text, "i-check" if absorbed else "i-warn", "ok" if absorbed else "warn")


def _lost_note(waiting: int, loss: NodeLossView | None) -> str:
    """Return what became of the portfolios that the lost node ran.

    `waiting`: how many of them have no new owner yet. `loss`: None if it was not recorded.
    """
    moved = loss.moved if loss else 0
    ran = loss.portfolios if loss else None
    if ran is None:  # lost before the number was stored
        ran = moved + waiting
    if not ran and not moved and not waiting:
        return _("It can no longer commit. It ran no portfolio.")
    parts = []
    if moved and loss and loss.moved_at:
        text = ngettext(
            "%(number)s was placed elsewhere by %(at)s",
            "%(number)s were placed elsewhere by %(at)s",
            moved,
        )
        parts.append(text % {"number": whole(moved), "at": clock(loss.moved_at)})
    elif moved:
        text = ngettext(
            "%(number)s was placed elsewhere", "%(number)s were placed elsewhere", moved
        )
        parts.append(text % {"number": whole(moved)})
    if waiting:
        text = ngettext("%(number)s waits to be placed", "%(number)s wait to be placed", waiting)
        parts.append(text % {"number": whole(waiting)})
    others = ran - moved - waiting
    if others > 0:
        text = ngettext(
            "%(number)s was stopped or deleted", "%(number)s were stopped or deleted", others
        )
        parts.append(text % {"number": whole(others)})
    sentence = ngettext(
        "It can no longer commit. It ran %(number)s portfolio: %(outcome)s",
        "It can no longer commit. It ran %(number)s portfolios: %(outcome)s",
        ran,
    ) % {"number": whole(ran), "outcome": joined(parts)}
    # A colon if the page lists the moves below the sentence.
    return sentence + (_(": ").rstrip() if loss and loss.moves else _("."))
