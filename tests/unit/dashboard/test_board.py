"""Arrangement of the board and its messages, from handmade snapshots."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import translation

from scheduling.dashboard.board.cards import Message, card_message
from scheduling.dashboard.board.changes import describe_changes
from scheduling.dashboard.board.columns import lease_level
from scheduling.dashboard.board.page import build_board_page, card_and_slot_nodes
from scheduling.dashboard.board.rows import recent_rows
from scheduling.dashboard.handoff_steps import build_steps
from scheduling.observe.fleet_view.types import LossView
from scheduling.observe.halts import HaltView
from scheduling.observe.node_losses import MoveView
from tests.support.board_fixture import (
    NOW,
    ago,
    busy_fleet,
    canary,
    ended_handoff,
    fleet_view,
    handoff,
    loss,
    node,
    portfolio,
    quiet_fleet,
)


def message_of(name: str, node: str, **fields: Any) -> Message:
    message = card_message(portfolio(name, node, **fields), NOW)
    assert message is not None
    return message


def column(page, name):
    return next(c for c in page.columns if c.node.name == name)


def test_board_shows_each_portfolio_exactly_once():
    fleet = busy_fleet()
    page = build_board_page(fleet)
    on_columns = [card.portfolio.name for c in page.columns for card in c.cards]
    waiting = [row.portfolio.name for row in page.unassigned]
    assert len(on_columns + waiting) == len(set(on_columns + waiting))
    assert len(on_columns) + len(waiting) + page.stopped_manually == len(fleet.portfolios) == 23


def test_card_stays_in_the_column_of_the_source_until_the_handoff_is_done():
    move = handoff(7, "a", state="activating", source_node="node-1", target_node="node-2")
    granted = portfolio("a", "node-2", phase="starting", handoff=move)
    assert card_and_slot_nodes(granted) == ("node-1", "node-2")
    assert card_and_slot_nodes(portfolio("a", "node-2")) == ("node-2", None)


def test_placement_reserves_a_slot_while_the_portfolio_is_unassigned():
    place = handoff(7, "a", kind="place", source_node=None, target_node="node-2")
    waiting = portfolio("a", None, phase="pending", handoff=place)
    page = build_board_page(fleet_view([node("node-2")], [waiting]))
    assert [row.portfolio.name for row in page.unassigned] == ["a"]
    assert [slot.portfolio for slot in column(page, "node-2").reserved] == ["a"]


def test_slot_reserved_by_a_handoff_counts_as_load_of_its_column():
    # node-1 runs four of weight 1 and reserves one: load 5 of 8
    first = column(build_board_page(busy_fleet()), "node-1")
    assert (first.used, first.held, first.load) == (4, 1, 5)
    assert first.load_text == "load 5 of 8, 1 of it reserved by handoffs"


def test_quiet_fleet_has_no_messages():
    page = build_board_page(quiet_fleet())
    assert not page.unassigned
    assert all(
        c.status_line is None and not c.trouble_rank and lease_level(c.node) == "ok"
        for c in page.columns
    )
    assert all(card.message is None for c in page.columns for card in c.cards)


@pytest.mark.parametrize(
    ("left", "level"), [(30.0, "ok"), (19.5, "ok"), (18.9, "late"), (0.2, "late"), (0.0, "out")]
)
def test_lease_level_is_late_only_if_a_heartbeat_is_missing(left, level):
    # a healthy lease falls from 30 to 20 s and is renewed; one second is for a heartbeat in transit
    assert lease_level(node("node-1", lease_left_s=left)) == level


def test_lost_node_shows_its_silence_and_where_its_portfolios_went():
    lost = column(build_board_page(busy_fleet()), "node-5")
    assert lost.status_line.text == "31 s without a heartbeat, limit 30 s"
    assert [h.portfolio for h in lost.moved_away] == ["bank-revert", "canary-5", "oil-sma"]
    assert lost.note.endswith("It ran 3 portfolios: 3 were placed elsewhere by 14:03:12 UTC:")
    assert lost.cpu is None


def note_of(loss_view, *cards):
    lost = node(loss_view.node, status="lost", status_since=loss_view.at)
    owned = [portfolio(name, lost.name) for name in cards]
    return column(build_board_page(fleet_view([lost], owned, losses=[loss_view])), lost.name)


def test_note_of_a_lost_node_counts_all_its_portfolios_and_not_only_the_listed_moves():
    moves = [MoveView(f"p-{i}", "node-2", 20.0) for i in range(8)]
    shown = note_of(loss("node-1", 60, portfolios=15, moved=13, moved_at=ago(57), moves=moves), "a")
    assert shown.note == (
        "It can no longer commit. It ran 15 portfolios: 13 were placed elsewhere by 14:04:15 UTC, "
        "1 waits to be placed, 1 was stopped or deleted:"
    )
    assert (len(shown.moved_away), shown.moved_more) == (8, 5)


@pytest.mark.parametrize(
    ("portfolios", "cards", "note"),
    [
        (0, [], "It can no longer commit. It ran no portfolio."),
        (2, [], "It can no longer commit. It ran 2 portfolios: 2 were stopped or deleted."),
        (1, ["a"], "It can no longer commit. It ran 1 portfolio: 1 waits to be placed."),
    ],
)
def test_note_of_a_lost_node_says_what_became_of_its_portfolios(portfolios, cards, note):
    assert note_of(loss("node-1", 60, portfolios=portfolios), *cards).note == note


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"stalled": True, "stalled_s": 42.0, "lag_events": 4211},
         "stalled 42 s: no progress while 4,211 events wait"),
        ({"rev_status": "unproven", "rev_left_s": 22.0}, "r3 not yet good, 38 of 60 s"),
        ({"rev_status": "unproven", "rev_left_s": 0.0, "lag_events": 0},
         "r3 not yet good: it ran 60 s; the next event of its feed decides"),
        ({"rev_status": "unproven", "rev_left_s": 0.0, "lag_events": 4},
         "r3 not yet good: it ran 60 s and now has to commit"),
        ({"attempts": 2, "reason": "ended at seq 7: KeyError VIX"}, "ended at seq 7: KeyError VIX"),
        ({"revision": 4}, "r4 is wanted, r3 is running"),
    ],
)  # fmt: skip
def test_card_message_states_the_condition_that_is_not_normal(given, sentence):
    assert message_of("a", "node-1", **given).text == sentence


def test_portfolio_that_no_node_runs_is_not_said_to_run_another_revision():
    stopped = {"desired_state": "stopped", "phase": "stopped", "revision": 4}
    for running in (None, 3):
        assert card_message(portfolio("a", None, running_revision=running, **stopped), NOW) is None


def test_handoff_steps_are_marked_as_done_running_to_come_failed_or_omitted():
    fleet = busy_fleet()
    draining = next(h for h in fleet.handoffs_active if h.id == 4182)
    steps = [(s.name, s.mark, s.text) for s in build_steps(draining, NOW)]
    # requested 1.712 s ago, prepared 1.3 s ago; the drain may take 5 s
    assert steps == [
        ("prepare", "done", "412 ms"),
        ("drain", "now", "1.3 of 5 s"),
        ("grant", "", ""),
        ("activate", "", ""),
    ]
    failed = next(h for h in fleet.handoffs_recent if h.id == 4175)
    assert [s.mark for s in build_steps(failed, NOW)] == ["fail", "", "", ""]
    gone = handoff(1, "a", kind="failover", state="activating", granted_at=ago(1))
    assert [s.mark for s in build_steps(gone, NOW)][1:] == ["omitted", "done", "now"]


def test_each_lost_node_from_which_portfolios_moved_has_a_row():
    first = loss("node-1", 60, moved=10, moved_at=ago(50), targets=["a", "b", "c", "d", "e"])
    second = loss("node-2", 60, moved=9, moved_at=ago(51), slowest_ms=33.0, targets=["a"])
    nothing = loss("node-3", 60, portfolios=0)
    between = ended_handoff(7, "x", 50.5)
    rows = recent_rows([between], [first, second, nothing])
    assert [(row.name, row.kind_text) for row in rows] == [
        ("node-1", "10 failovers"), ("x", "migrate"), ("node-2", "9 failovers"),
    ]  # fmt: skip
    assert (rows[0].target, rows[2].pause_ms) == ("a, b, c and 2 more", 33.0)
    assert rows[0].reason_text == "31 s without a heartbeat, limit 30 s"


def test_balancer_is_named_in_the_language_of_the_reader():
    reason = {"reason": "pinned there", "requested_by": "balancer"}
    rows = [ended_handoff(1, "x", 50, **reason), ended_handoff(2, "y", 60, requested_by="mira")]
    with translation.override("zh-hans"):
        shown = [row.reason_text for row in recent_rows(rows)]
    assert shown == ["均衡器：pinned there", "mira"]


def test_move_that_failed_before_the_drain_is_shown_with_a_pause_of_zero():
    failed = next(r for r in recent_rows(busy_fleet().handoffs_recent) if r.id == 4175)
    assert (failed.kind_text, failed.pause_ms, failed.tone) == ("migrate, failed", 0.0, "warn")


def test_canary_with_a_gap_is_not_clean():
    cards = column(build_board_page(busy_fleet()), "node-6").cards
    by_name = {c.portfolio.name: c for c in cards}
    assert by_name["canary-6"].canary_clean
    assert not by_name["canary-5"].canary_clean


def test_unassigned_rows_are_limited_and_the_rest_is_counted():
    many = [portfolio(f"p-{i}", None, phase="pending") for i in range(8)]
    page = build_board_page(fleet_view([], many))
    assert (len(page.unassigned), page.unassigned_more) == (5, 3)


def test_node_that_left_has_a_column_only_while_it_owns_portfolios():
    left = node("node-1", status="left")
    assert not build_board_page(fleet_view([left], [])).columns
    assert build_board_page(fleet_view([left], [portfolio("a", "node-1")])).columns


def test_changes_between_two_snapshots_are_described_once():
    before = fleet_view([node("node-1")], [canary("c", "node-1", handoff=handoff(1, "c"))])
    after = fleet_view(
        [node("node-1", status="lost"), node("node-2")],
        [canary("c", "node-2")],
        handoffs_recent=[ended_handoff(1, "c", 0)],
        at=NOW + timedelta(seconds=1),
    )
    assert describe_changes(before, after) == ["node-1 is lost", "node-2 joined", "c: migrate done"]
    assert describe_changes(after, after) == []


def test_profit_before_the_first_commit_is_unknown_not_zero():
    fresh = portfolio("a", "node-1", account={"cash": None, "equity": None, "pnl": None})
    page = build_board_page(fleet_view([node("node-1")], [fresh]))
    assert column(page, "node-1").cards[0].pnl is None


HALT = HaltView(4, ago(60), "ginkgo", "wrong prices", 9, 9, 9, None, "")


def test_halted_fleet_never_says_that_a_loss_is_absorbed():
    nodes = [node("node-1", loss=LossView(ago(61), 0, 0, 0, 0, [])), node("node-2")]
    page = build_board_page(fleet_view(nodes, [], halts=[HALT]))
    for each in page.columns:
        assert each.status_line == Message("halted: nothing runs here", "i-power", "bad")
        assert each.forecast is None
    page = build_board_page(fleet_view(nodes, [portfolio("a", "node-2")], halts=[HALT]))
    assert column(page, "node-2").status_line is None


def test_card_counts_orders_of_which_none_was_placed():
    assert card_message(portfolio("a", "node-1", orders_refused=40, unplaced_orders=0), NOW) is None
    message = message_of("a", "node-1", unplaced_orders=1_200)
    assert message.text == "1,200 orders refused or suppressed, none placed since"
    assert message.tone == "warn"
    with translation.override("zh-hans"):
        assert "1,200" in message_of("a", "n", unplaced_orders=1_200).text


def test_card_on_a_suspect_node_has_a_warning():
    message = message_of("a", "node-3", suspect=True, last_commit_at=ago(12))
    assert (message.text, message.tone) == ("node-3 is suspect; last commit 12 s ago", "warn")
