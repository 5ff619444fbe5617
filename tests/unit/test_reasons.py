"""Every reason is a sentence: what it needs, the state found with its number, what would help."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from scheduling.decide.planner import make_plan
from scheduling.decide.reasons import SENTENCES, count, number, render
from scheduling.decide.world import Policy, Reason
from tests.planning import node, on, pending, portfolio, world

NEED: dict[str, Any] = {
    "weight": 2,
    "selector": "gpu=yes",
    "strategy": "pairs_trade 2",
    "feed": "replay",
    "feed_sha": "ab12cd34",
    "nodes": 6,
    "other": False,
}
STEP: dict[str, Any] = {
    "how": "lowest",
    "of": 3,
    "target": "node-3",
    "load_before": 2,
    "load_after": 4,
    "capacity": 8,
    "source": "node-1",
    "source_status": "lost",
    "source_load": 6,
    "source_capacity": 8,
    "weight": 2,
    "group": "alpha",
    "pinned": None,
}
STATE: dict[str, Any] = {
    **NEED, "node": "node-2", "state": "full", "load": 8, "capacity": 8, "wait_s": 12.4,
    "group": "alpha",
}  # fmt: skip
ROOM: dict[str, Any] = {
    **NEED, "states": [STATE], "more": {}, "group": "", "remedy": "more", "remedy_node": "",
}  # fmt: skip

SAID = [
    ("place", STEP, "node-3 has the lowest load of 3 nodes: 2 → 4 of 8"),
    ("place", {**STEP, "of": 1}, "node-3 is the only node for it: load 2 → 4 of 8"),
    (
        "place",
        {**STEP, "how": "failed"},
        "no other node has room, so node-3 again, where starting failed twice: load 2 → 4 of 8",
    ),
    (
        "failover",
        {**STEP, "how": "prepared"},
        "node-1 is lost; node-3 is ready for it already: load 2 → 4 of 8",
    ),
    ("drain", STEP, "node-1 drains; node-3 has the lowest load of 3 nodes: 2 → 4 of 8"),
    ("pin", {**STEP, "how": "pinned"}, "pinned to node-3: load 2 → 4 of 8"),
    ("rebalance", STEP, "evens out the load: node-1 6 → 4 of 8, node-3 2 → 4 of 8"),
    (
        "rule_broken",
        STEP,
        "node-1 no longer has what it needs; node-3 has the lowest load of 3 nodes: 2 → 4 of 8",
    ),
    (
        "spread",
        STEP,
        "another of spread group alpha runs on node-1; "
        "node-3 has the lowest load of 3 nodes: 2 → 4 of 8",
    ),
    ("no_nodes", NEED, "needs 2 places: there is no node yet; start one with run_node"),
    ("no_other_node", NEED, "needs 2 places elsewhere: there is no other node; add one"),
    (
        "no_live_node",
        NEED,
        "needs 2 places: 0 of 6 nodes are alive; start one again or add one",
    ),
    (
        "no_selector",
        NEED,
        "needs gpu=yes: 0 of 6 nodes have it; add the label to one node or drop the selector",
    ),
    (
        "no_strategy",
        {**NEED, "nodes": 1},
        "needs strategy pairs_trade 2: 0 of 1 node has it; "
        "install it on one node or change the portfolio's strategy",
    ),
    (
        "no_feed",
        NEED,
        "needs feed replay with sha256 ab12cd34…: 0 of 6 nodes have it; "
        "install the same data on one node",
    ),
    (
        "no_match",
        NEED,
        "needs gpu=yes and strategy pairs_trade 2 and feed replay: "
        "0 of 6 nodes have all of it together; complete one node or ask for less",
    ),
    (
        "too_heavy",
        {**NEED, "weight": 9, "largest": 8},
        "needs 9 places on one node: the largest of 6 nodes with gpu=yes has 8; "
        "raise a node's capacity or lower the weight",
    ),
    (
        "no_room",
        {**ROOM, "nodes": 9, "more": {"cordoned": 1, "full": 7}},
        "needs 2 places: no room on 9 nodes with gpu=yes: "
        "node-2 8 of 8 and 8 more (1 cordoned, 7 full); "
        "add a node, raise a capacity or stop a portfolio",
    ),
    (
        "pin_waits",
        {"state": STATE},
        "cannot go where it is pinned: node-2 is full: load 8 of 8, it needs 2; "
        "unpin it or make room there",
    ),
    (
        "frozen",
        {"cause": "rebalance"},
        "its node no longer suits it, but automatic moves are frozen; "
        "unfreeze, or migrate it by hand",
    ),
    (
        "frozen_failover",
        {"node": None},
        "its node is lost, but failover is frozen; unfreeze, or migrate it by hand",
    ),
    (
        "storm_hold",
        {"node": "node-2"},
        "node-2 was lost together with many others, so failover is held; "
        "it goes on when they come back, or release the hold",
    ),
    (
        "storm_hold",
        {"node": "node-2", "by": "ann"},
        "node-2 is lost, but ann holds failover; release the hold, or migrate it",
    ),
    (
        "storm_late",
        {"node": "node-2", "late": ["node-3", "node-4"]},
        "node-2 is lost and node-3, node-4 are late: failover waits until it is known whether "
        "they went together",
    ),
    (
        "after_storm",
        {"node": "node-2", "limit": 10},
        "node-2 was lost in a storm: failover goes on, 10 a pass, and its turn comes",
    ),
    ("backing_off", {"wait_s": 0.2}, "the last try failed; the next one is in 1 s"),
    (
        "halted_all",
        {"actor": "ann", "why": "wrong prices", "halt": 3},
        "stopped with everything else by ann: wrong prices; "
        "start it, or undo halt 3 to start all it stopped",
    ),
    (
        "makes_room",
        {**STEP, "for": "big"},
        "makes room for big: node-1 6 → 4 of 8, node-3 2 → 4 of 8",
    ),
    (
        "waits_for_room",
        {"weight": 2, "node": "node-1", "moves": [{"portfolio": "a", "target": "node-3"}]},
        "needs 2 places: node-1 has room once a is on node-3",
    ),
    (
        "waits_for_room",
        {"weight": 2, "node": "node-1", "moves": []},
        "needs 2 places: node-1 has room once what leaves it is gone",
    ),
    ("on_node", {**STATE, "state": "lost"}, "node-2 is lost"),
    (
        "on_node",
        {**STATE, "state": "flapping"},
        "node-2 was lost too often lately: 12 s until it counts again",
    ),
]


@pytest.mark.parametrize(("code", "params", "sentence"), SAID)
def test_it_says(code: str, params: dict[str, Any], sentence: str) -> None:
    assert render(Reason(code, params)) == sentence


def test_every_code_that_has_a_sentence_is_said_here() -> None:
    assert {code for code, _, _ in SAID} == set(SENTENCES)


@pytest.mark.parametrize("remedy", ["cordoned", "draining", "flapping", "spread", "more"])
def test_every_remedy_is_an_act(remedy: str) -> None:
    sentence = render(Reason("no_room", {**ROOM, "remedy": remedy, "remedy_node": "node-6"}))
    assert re.search(r"; (add|uncordon|undo|wait) .+", sentence)


def test_a_code_without_a_sentence_is_shown_rather_than_raised() -> None:
    assert render(Reason("some_new_code")) == "some new code"


def test_parameters_survive_json_so_that_they_can_be_stored_and_said_later() -> None:
    plan = make_plan(
        world([node(1, capacity=1)], [*on(1, "a"), portfolio("p"), portfolio("q", weight=7)]),
        Policy(),
    )
    for entry in plan.pending:
        stored = Reason(entry.reason.code, json.loads(json.dumps(entry.reason.params)))
        assert render(stored) == render(entry.reason)


def test_many_nodes_are_counted_and_not_listed() -> None:
    nodes = [node(i, name=f"n-{i:02}", capacity=0 if i < 9 else 1) for i in range(1, 10)]
    full = on(9, "a")
    assert pending(make_plan(world(nodes, [*full, portfolio("p")]), Policy())) == {
        "p": "needs 1 place: no room on 9 nodes: n-01 0 of 0, n-02 0 of 0, n-03 0 of 0, "
        "n-04 0 of 0, n-05 0 of 0, n-06 0 of 0 and 3 more (3 full); "
        "add a node, raise a capacity or stop a portfolio"
    }


def test_numbers_are_shown_as_on_screens() -> None:
    assert [number(1), number(2.0), number(2.5), number(9862904)] == ["1", "2", "2.5", "9,862,904"]
    assert [count(1, "node"), count(0, "node"), count(2, "beat")] == [
        "1 node",
        "0 nodes",
        "2 beats",
    ]
