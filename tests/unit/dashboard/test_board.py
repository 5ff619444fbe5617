"""What stands where on the board, and what it says. All worlds are made by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduling.dashboard.board import (
    build_desk,
    card_message,
    changes,
    column_of,
    lease_level,
    recent_rows,
    spark_points,
)
from scheduling.dashboard.handoff_steps import steps_of
from tests.support.board_fixture import (
    NOW,
    ago,
    board,
    busy_fleet,
    canary,
    ended,
    handoff,
    node,
    portfolio,
    quiet_fleet,
)


def column(desk, name):
    return next(c for c in desk.columns if c.line.name == name)


def test_each_portfolio_is_in_exactly_one_place():
    fleet = busy_fleet()
    desk = build_desk(fleet)
    seated = [card.line.name for c in desk.columns for card in c.cards]
    waiting = [w.line.name for w in desk.nowhere]
    assert len(seated + waiting) == len(set(seated + waiting))
    assert len(seated) + len(waiting) + desk.stopped == len(fleet.portfolios) == 23


def test_a_card_stays_on_the_source_until_the_handoff_is_done():
    move = handoff(7, "a", state="activating", source_node="node-1", target_node="node-2")
    granted = portfolio("a", "node-2", phase="starting", handoff=move)
    assert column_of(granted) == ("node-1", "node-2")
    assert column_of(portfolio("a", "node-2")) == ("node-2", None)


def test_a_placement_holds_its_place_while_the_portfolio_waits_in_the_strip():
    place = handoff(7, "a", kind="place", source_node=None, target_node="node-2")
    waiting = portfolio("a", None, phase="pending", handoff=place)
    desk = build_desk(board([node("node-2")], [waiting]))
    assert [w.line.name for w in desk.nowhere] == ["a"]
    assert [g.portfolio for g in column(desk, "node-2").ghosts] == ["a"]


def test_a_held_place_is_hatched_and_counts_as_load():
    # node-1 runs four of weight 1 and holds one: 4 full cells, 1 hatched, 3 empty, load 5 of 8
    first = column(build_desk(busy_fleet()), "node-1")
    assert first.cells == ("on", "on", "on", "on", "res", "", "", "")
    assert first.load == 5
    assert first.load_words == "load 5 of 8, 1 of it held by a handoff"


def test_a_weight_of_two_is_one_double_cell():
    # canary-2, ibm-sma and msft-sma of weight 1, retail-hold of weight 2: 5 of 6
    cells = column(build_desk(busy_fleet()), "node-2").cells
    assert sorted(cells) == ["", "on", "on", "on", "on", "on w"]
    assert cells[cells.index("on w") - 1] == "on"


def test_a_quiet_fleet_says_nothing():
    desk = build_desk(quiet_fleet())
    assert not desk.nowhere
    assert all(c.fifth is None and not c.trouble and c.level == "ok" for c in desk.columns)
    assert all(card.message is None for c in desk.columns for card in c.cards)


@pytest.mark.parametrize(
    ("left", "level"), [(30.0, "ok"), (19.5, "ok"), (18.9, "late"), (0.2, "late"), (0.0, "out")]
)
def test_a_lease_turns_amber_only_when_a_beat_is_missing(left, level):
    # a healthy lease falls from 30 to 20 s and is renewed; one second is for the beat's way
    assert lease_level(node("node-1", lease_left_s=left)) == level


def test_a_lost_node_says_how_long_it_was_silent_and_where_everything_went():
    lost = column(build_desk(busy_fleet()), "node-5")
    assert lost.fifth.text == "31 s without a beat, limit 30 s"
    assert [h.portfolio for h in lost.moved_away] == ["bank-revert", "canary-5", "oil-sma"]
    assert lost.note.endswith("3 portfolios were placed elsewhere by 14:03:12:")
    assert lost.cpu is None


def test_a_lost_node_that_still_owns_says_that_they_wait():
    lost = node("node-1", status="lost", lease_left_s=0.0, status_since=ago(2))
    desk = build_desk(board([lost], [portfolio("a", "node-1")]))
    assert "waits to be placed elsewhere" in column(desk, "node-1").note


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"stalled": True, "stalled_s": 42.0, "lag_events": 4211},
            "stalled 42 s: no progress while 4,211 events wait",
        ),
        ({"rev_status": "unproven", "rev_left_s": 22.0}, "r3 not yet good, 38 of 60 s"),
        ({"attempts": 2, "reason": "ended at seq 7: KeyError VIX"}, "ended at seq 7: KeyError VIX"),
        ({"revision": 4}, "r4 is wanted, r3 runs"),
    ],
)
def test_a_card_that_is_not_normal_has_one_sentence(given, sentence):
    assert card_message(portfolio("a", "node-1", **given), NOW).text == sentence


def test_a_handoff_shows_what_is_done_what_runs_and_what_is_to_come():
    draining = next(h for h in busy_fleet().handoffs_active if h.id == 4182)
    steps = [(s.name, s.mark, s.text) for s in steps_of(draining, NOW)]
    # requested 1.712 s ago, prepared 1.3 s ago; the drain may take 5 s
    assert steps == [
        ("prepare", "done", "412 ms"),
        ("drain", "now", "1.3 of 5 s"),
        ("grant", "", ""),
        ("activate", "", ""),
    ]


def test_a_failed_preparation_marks_that_step_and_no_later_one():
    failed = next(h for h in busy_fleet().handoffs_recent if h.id == 4175)
    assert [s.mark for s in steps_of(failed, NOW)] == ["fail", "", "", ""]


def test_a_failover_has_nobody_to_drain():
    gone = handoff(1, "a", kind="failover", state="activating", granted_at=ago(1))
    assert [s.mark for s in steps_of(gone, NOW)][1:] == ["omitted", "done", "now"]


def test_failovers_of_one_node_are_one_row():
    rows = recent_rows(busy_fleet().handoffs_recent)
    together = next(row for row in rows if row.kind == "3 failovers")
    assert (together.name, together.target) == ("node-5", "node-1, node-6")
    assert together.pause_ms == 33_100.0
    assert len(rows) == 6


def test_failovers_of_two_nodes_stay_two_rows():
    one = ended(2, "a", 10, kind="failover", source_node="node-1")
    other = ended(1, "b", 11, kind="failover", source_node="node-2")
    assert [row.name for row in recent_rows([one, other])] == ["a", "b"]


def test_a_move_that_failed_before_the_drain_paused_nothing():
    failed = next(r for r in recent_rows(busy_fleet().handoffs_recent) if r.id == 4175)
    assert (failed.kind, failed.pause_ms, failed.tone) == ("migrate, failed", 0.0, "warn")


def test_a_canary_with_a_gap_is_trouble():
    card = column(build_desk(busy_fleet()), "node-6").cards
    by_name = {c.line.name: c for c in card}
    assert by_name["canary-6"].canary_clean
    assert not by_name["canary-5"].canary_clean


def test_the_strip_is_short_and_counts_the_rest():
    many = [portfolio(f"p-{i}", None, phase="pending") for i in range(8)]
    desk = build_desk(board([], many))
    assert (len(desk.nowhere), desk.nowhere_more) == (5, 3)


def test_a_node_that_left_is_gone_unless_something_still_stands_there():
    left = node("node-1", status="left")
    assert not build_desk(board([left], [])).columns
    assert build_desk(board([left], [portfolio("a", "node-1")])).columns


def test_a_large_node_gets_one_bar_instead_of_a_hundred_cells():
    large = column(build_desk(board([node("node-1", capacity=100)], [])), "node-1")
    assert large.cells == ()


def test_a_flat_curve_is_a_line_through_the_middle():
    points, end = spark_points([5.0, 5.0, 5.0])
    assert points == "2.0,9.0 38.0,9.0 74.0,9.0"
    assert end == (74.0, 9.0)


def test_fewer_than_two_points_are_no_curve():
    assert spark_points([1.0]) == ("", None)


def test_what_changed_between_two_looks_is_said_once():
    before = board([node("node-1")], [canary("c", "node-1", handoff=handoff(1, "c"))])
    after = board(
        [node("node-1", status="lost"), node("node-2")],
        [canary("c", "node-2")],
        handoffs_recent=[ended(1, "c", 0)],
        at=NOW + timedelta(seconds=1),
    )
    assert changes(before, after) == ["node-1 is lost", "node-2 joined", "c: migrate done"]
    assert changes(after, after) == []


def test_before_the_first_commit_profit_is_unknown_not_zero():
    fresh = portfolio("a", "node-1", account={"cash": None, "equity": None, "pnl": None})
    desk = build_desk(board([node("node-1")], [fresh]))
    assert column(desk, "node-1").cards[0].pnl is None
