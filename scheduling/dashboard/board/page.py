"""Arrange one fleet snapshot as the board: columns, cards, rows, counts and alerts. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduling.dashboard.board.cards import GOOD_AFTER_S, Card, build_card
from scheduling.dashboard.board.columns import Column, ReservedSlot, build_column, build_slot
from scheduling.dashboard.board.rows import (
    RecentRow,
    RunningRow,
    UnassignedRow,
    recent_rows,
    running_row,
    unassigned_row,
)
from scheduling.observe.localized_reason import localized_reason
from scheduling.presentation.state_words import alert_word

if TYPE_CHECKING:
    from scheduling.observe.fleet_view.types import FleetView, PortfolioView


MAX_RUNNING_ROWS = 20  #: handoffs that are listed; one link leads to the others
MAX_UNASSIGNED_ROWS = 5  #: portfolios that are listed; one link leads to the others
#: Phases in the order in which the board counts portfolios and lists unassigned ones.
PHASES = ("running", "starting", "draining", "pending", "halted", "quarantined", "stopped")


@dataclass(frozen=True, slots=True)
class FleetCounts:
    """Counts of nodes and portfolios by state, and the load of the fleet."""

    nodes: int
    by_status: tuple[tuple[str, int], ...]  #: (status, number of nodes)
    portfolios: int
    by_phase: tuple[tuple[str, int], ...]  #: (phase, number of portfolios)
    load: float  #: total of the nodes that are neither lost nor have left
    capacity: float  #: total of the same nodes


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
    unassigned_more: int  #: rows that `unassigned` leaves out
    pending: int  #: portfolios that no column shows, neither stopped, halted nor quarantined
    stopped_by_system: int  #: halted or quarantined portfolios that no column shows
    stopped_manually: int  #: stopped portfolios that no column shows
    under_way: tuple[RunningRow, ...]  #: handoffs under way
    under_way_more: int  #: rows that `under_way` leaves out
    recent: tuple[RecentRow, ...]
    counts: FleetCounts
    first_in_trouble: str = ""  #: name of the node of the first column in trouble
    alerts: tuple[AlertNotice, ...] = ()
    elsewhere: tuple[Card, ...] = ()  #: cards of portfolios that no column shows


#: Alerts that columns, cards, unassigned rows and banners do not already show.
SHOWN_ALERTS = (
    *("revision_rejected", "roll_out_stopped", "verification_differs", "no_open_node"),
    *("passes_stand", "no_watcher", "commits_stand", "commits_vanished", "behind"),
    *("orders_refused", "disk_full", "snapshot_held", "partition_missing", "table_growth"),
    *("archived_unverified", "feed_silent"),
)


def card_and_slot_nodes(portfolio: PortfolioView) -> tuple[str | None, str | None]:
    """Return the node whose column shows the card, and the node that reserves a slot for it.

    The card stays on the source until the handoff is done, even after the grant made the target
    its owner: a card never shows a move before the move has succeeded.
    """
    handoff = portfolio.handoff
    if handoff is None or handoff.target_node is None:
        return portfolio.node, None
    if handoff.source_node is not None and handoff.source_node != handoff.target_node:
        return handoff.source_node, handoff.target_node
    if portfolio.node is None:  # a placement
        return None, handoff.target_node
    return portfolio.node, None  # a reload: it keeps its place


def build_board_page(fleet: FleetView, good_after_s: float = GOOD_AFTER_S) -> BoardPage:
    """Arrange the snapshot as the board page."""
    cards: dict[str, list[Card]] = {}
    reserved: dict[str, list[ReservedSlot]] = {}
    unassigned: list[PortfolioView] = []
    elsewhere: list[Card] = []
    stopped_manually = 0
    for portfolio in fleet.portfolios:
        card_node, slot_node = card_and_slot_nodes(portfolio)
        if slot_node is not None:
            reserved.setdefault(slot_node, []).append(build_slot(portfolio))
        card = build_card(portfolio, card_node or "", fleet.at, good_after_s)
        if card_node is not None:
            cards.setdefault(card_node, []).append(card)
            continue
        elsewhere.append(card)
        if portfolio.phase == "stopped":
            stopped_manually += 1
        else:
            unassigned.append(portfolio)
    columns = tuple(
        build_column(
            node, tuple(cards.get(node.name, ())), tuple(reserved.get(node.name, ())), fleet
        )
        for node in fleet.nodes
        if node.status != "left" or node.name in cards or node.name in reserved
    )
    unassigned.sort(key=lambda portfolio: (PHASES.index(portfolio.phase), portfolio.name))
    stopped_by_system = sum(each.phase in ("halted", "quarantined") for each in unassigned)
    in_trouble = [column for column in columns if column.trouble_rank]
    first_in_trouble = min(in_trouble, key=lambda column: column.trouble_rank, default=None)
    return BoardPage(
        fleet=fleet,
        columns=columns,
        unassigned=tuple(unassigned_row(p, fleet.at) for p in unassigned[:MAX_UNASSIGNED_ROWS]),
        unassigned_more=max(len(unassigned) - MAX_UNASSIGNED_ROWS, 0),
        pending=len(unassigned) - stopped_by_system,
        stopped_by_system=stopped_by_system,
        stopped_manually=stopped_manually,
        under_way=tuple(running_row(h, fleet.at) for h in fleet.handoffs_active[:MAX_RUNNING_ROWS]),
        under_way_more=max(len(fleet.handoffs_active) - MAX_RUNNING_ROWS, 0),
        recent=recent_rows(fleet.handoffs_single, fleet.losses),
        counts=_fleet_counts(fleet, columns),
        first_in_trouble=first_in_trouble.node.name if first_in_trouble else "",
        alerts=tuple(
            AlertNotice(alert.portfolio, alert_word(alert.kind), localized_reason(alert))
            for alert in fleet.alerts
            if alert.kind in SHOWN_ALERTS
        ),
        elsewhere=tuple(elsewhere),
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
