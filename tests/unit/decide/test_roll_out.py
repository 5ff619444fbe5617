"""The next steps of a roll-out, case by case, and the sentences of its items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scheduling.decide.reasons import render
from scheduling.decide.roll_out import Item, Limits, RollOut, Steps, next_steps

LIMITS = Limits(change_s=300, build_s=330, good_s=60, prove_s=600, ready_s=120)


def roll_out(*items: Item, **fields: Any) -> RollOut:
    return RollOut(**{"id": 7, "state": "running", "now": 1000.0, "items": items, **fields})


def item(id: int, state: Any = "waiting", **fields: Any) -> Item:
    started = {} if state in ("waiting", "skipped") else {"wanted": 3, "from_revision": 2,
                                                          "to_revision": 3}  # fmt: skip
    values = {"is_canary": id == 0, "since": 1000.0, "seen_revision": 2, "wanted": 2, "running": 2}
    return Item(id, f"p{id}", state, **{**values, **started, **fields})


PROVEN_CANARY = item(0, "done", running=3, status="good")


def new_states(steps: Steps) -> dict[str, str]:
    """Return name → new state, with the sentence."""
    return {
        c.item.name: f"{c.state}: {render(c.reason)}" if c.reason else c.state
        for c in steps.changes
    }


def test_others_wait_until_the_canary_is_good() -> None:
    runs = item(0, "changing", running=3)
    assert new_states(next_steps(roll_out(runs, item(1)), LIMITS)) == {"p0": "proving"}
    proving = item(0, "proving", running=3, has_progress=True, since=941.0)
    assert not next_steps(roll_out(proving, item(1)), LIMITS)
    steps = next_steps(roll_out(replace(proving, status="good"), item(1)), LIMITS)
    assert new_states(steps) == {"p0": "done"} and [i.name for i in steps.start] == ["p1"]


@pytest.mark.parametrize(
    ("since", "has_progress", "canary_s", "starts"),
    [
        (990.0, True, 10.0, True),
        (990.5, True, 10.0, False),
        (990.0, False, 10.0, False),  # no event yet
        (1000.0, False, 0.0, True),  # it has only to run
    ],
)
def test_canary_seconds_count_from_the_first_progress_under_the_new_revision(
    since: float, has_progress: bool, canary_s: float, starts: bool
) -> None:
    canary = item(0, "proving", running=3, since=since, has_progress=has_progress)
    assert bool(next_steps(roll_out(canary, item(1), canary_s=canary_s), LIMITS).start) is starts


def test_a_canary_that_lost_its_owner_holds_the_others_until_it_runs_again() -> None:
    canary = item(0, "proving", running=None, has_owner=False, has_progress=True, since=900.0)
    assert not next_steps(roll_out(canary, item(1), canary_s=10.0), LIMITS)


def test_no_more_portfolios_than_at_a_time_change_at_once() -> None:
    busy = [item(1, "changing"), item(2), item(3), item(4), item(5)]
    steps = next_steps(roll_out(PROVEN_CANARY, *busy, at_a_time=3), LIMITS)
    assert [i.name for i in steps.start] == ["p2", "p3"]


def test_the_next_portfolio_starts_when_one_is_proven() -> None:
    steps = next_steps(roll_out(PROVEN_CANARY, item(1, "changing", running=3), item(2)), LIMITS)
    assert new_states(steps) == {"p1": "proving"} and [i.name for i in steps.start] == ["p2"]


@pytest.mark.parametrize("state", ["changing", "proving"])
def test_a_rejection_stops_the_roll_out(state: str) -> None:
    bad = item(1, state, status="rejected", status_reason="ValueError: no")
    steps = next_steps(roll_out(PROVEN_CANARY, bad, item(2), item(3, "changing")), LIMITS)
    assert steps.state == "stopping" and not steps.start
    assert new_states(steps) == {
        "p1": "rejected: r3 was rejected: ValueError: no",
        "p2": "skipped: the roll-out ended before its turn, so it is left as it is",
    }
    assert steps.reason is not None
    assert render(steps.reason) == "stopped at p1: r3 was rejected: ValueError: no"
    assert render(steps.reason, "zh") == "停在 p1：r3 被拒绝：ValueError: no"


def test_a_canary_that_never_ran_the_revision_stops_the_roll_out() -> None:
    late = item(0, "changing", since=699.0)
    steps = next_steps(roll_out(late, item(1)), LIMITS)
    assert new_states(steps)["p0"] == "late: did not run r3 within 300 s; see its handoffs"
    assert steps.state == "stopping"
    assert not next_steps(roll_out(late, item(1), has_environment=True), LIMITS), "it may build"


def test_only_the_canary_needs_an_event_to_prove_it() -> None:
    quiet = {"running": 3, "since": 339.0}
    steps = next_steps(roll_out(item(0, "proving", **quiet)), LIMITS)
    assert steps.state == "stopping"
    sentence = "runs r3, which no event has proven within 660 s"
    assert new_states(steps) == {"p0": f"late: {sentence}"}
    steps = next_steps(roll_out(PROVEN_CANARY, item(1, "proving", **quiet)), LIMITS)
    assert new_states(steps) == {"p1": f"done: {sentence}"} and steps.state == "finished"


SKIPPED = [
    ({"is_deleted": True}, "was deleted"),
    ({"wanted": 5}, "an operator changed it to r5 meanwhile, so it is left as it is"),
    ({"is_wanted": False},
     "is stopped, so it is left as it is; start it, then roll out again"),
    ({"phase": "quarantined", "has_owner": False},
     "is quarantined, so it is left as it is; start it, then roll out again"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "sentence"), SKIPPED)
def test_a_portfolio_that_cannot_be_changed_is_skipped(
    found: dict[str, Any], sentence: str
) -> None:
    steps = next_steps(roll_out(PROVEN_CANARY, item(1, **found), item(2)), LIMITS)
    assert new_states(steps) == {"p1": f"skipped: {sentence}"}
    assert [i.name for i in steps.start] == ["p2"]
    steps = next_steps(roll_out(item(0, **found), item(1)), LIMITS)
    assert new_states(steps) == {"p0": f"skipped: {sentence}"} and not steps.start
    stopped = next_steps(roll_out(item(0, "skipped"), item(1)), LIMITS)
    assert stopped.state == "stopping", "without its canary nothing is rolled out"


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"has_owner": False, "running": None, "phase": "pending"},
         "had no owner for 120 s, so it is left as it is"),
        ({"in_handoff": True}, "was in another handoff for 120 s, so it is left as it is"),
        ({"has_good": False},
         "had no proven revision to fall back to for 120 s, so it is left as it is; roll out again "
         "once its revision is good, or edit it by itself"),
    ],
)  # fmt: skip
def test_a_portfolio_that_is_not_ready_lets_others_go_first(
    found: dict[str, Any], sentence: str
) -> None:
    steps = next_steps(roll_out(PROVEN_CANARY, item(1, **found), item(2)), LIMITS)
    assert [i.name for i in steps.start] == ["p2"] and not steps.changes
    late = [replace(i, since=879.0) for i in (PROVEN_CANARY, item(1, **found))]
    # As long as anything else happens, it is waited for.
    begins = item(2, "changing", running=3, since=879.0)
    assert new_states(next_steps(roll_out(*late, begins), LIMITS)) == {"p2": "proving"}
    assert new_states(next_steps(roll_out(*late), LIMITS)) == {"p1": f"skipped: {sentence}"}
    both = [*late, replace(item(2, **found), since=879.0)]
    assert new_states(next_steps(roll_out(*both), LIMITS)).keys() == {"p1", "p2"}, "not one by one"


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"wanted": 4}, "an operator changed it to r4 meanwhile, so it is left as it is"),
        ({"is_deleted": True}, "was deleted"),
        ({"is_wanted": False}, "is stopped before r3 was proven; it runs once it is started"),
        ({"phase": "halted"}, "is halted before r3 was proven; it runs once it is started"),
    ],
)
def test_portfolio_that_an_operator_changes_ends_its_own_item_only(
    found: dict[str, Any], sentence: str
) -> None:
    steps = next_steps(roll_out(PROVEN_CANARY, item(1, "changing", **found), item(2)), LIMITS)
    assert new_states(steps) == {"p1": f"left: {sentence}"}
    assert [i.name for i in steps.start] == ["p2"] and steps.state is None
    steps = next_steps(roll_out(item(0, "proving", **found), item(1)), LIMITS)
    assert steps.state == "stopping", "an unproven canary stops the roll-out"


def test_the_way_back_leaves_what_an_operator_changed_since() -> None:
    items = [
        item(0, "returning", running=3, status="good"),
        item(1, "returning", status="rejected"),
        item(2, "returning", is_wanted=False, has_owner=False, running=None, phase="stopped"),
        item(3, "returning", wanted=4),
        item(4, "returning", is_deleted=True),
        item(5, "returning", wanted=2),
        item(6),
        item(7, "skipped"),
    ]
    steps = next_steps(roll_out(*items, state="going_back"), LIMITS)
    assert [i.name for i in steps.give_back] == ["p0", "p1", "p2"]
    assert new_states(steps) == {
        "p3": "not_returned: an operator changed it to r4 meanwhile, so it is left as it is",
        "p4": "not_returned: was deleted",
        "p5": "returned",
        "p6": "skipped: the roll-out ended before its turn, so it is left as it is",
    }


def test_way_back_ends_each_item_with_its_outcome() -> None:
    back = {"wanted": 2, "running": 2}
    items = [
        item(0, "returning", **back),
        item(1, "returning", **back, in_handoff=True),
        item(2, "returning", wanted=2, running=None, has_owner=False, is_wanted=False),
        item(3, "returning", wanted=2, running=3, since=369.0),
        item(4, "returning", wanted=9),
    ]
    steps = next_steps(roll_out(*items, state="going_back"), LIMITS)
    assert new_states(steps) == {
        "p0": "returned",
        "p2": "returned: is stopped; it runs r2 once it is started",
        "p3": "not_returned: did not run r2 within 630 s; see its handoffs",
        "p4": "not_returned: an operator changed it to r9 meanwhile, so it is left as it is",
    }
    assert steps.state is None, "p1 is still in a handoff"
    over = next_steps(roll_out(item(0, "returning", **back), state="going_back"), LIMITS)
    assert over.state == "back"


def test_at_most_ten_portfolios_return_at_once() -> None:
    items = [item(id, "returning", running=3, status="good") for id in range(30)]
    steps = next_steps(roll_out(*items, state="going_back"), LIMITS)
    assert len(steps.give_back) == 10
    items = [replace(i, wanted=2) if i.id < 8 else i for i in items]
    steps = next_steps(roll_out(*items, state="going_back"), LIMITS)
    assert [i.id for i in steps.give_back] == [8, 9]
