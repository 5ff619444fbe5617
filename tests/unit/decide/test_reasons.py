"""Every reason renders as a sentence: requirement, state found with numbers, remedy."""

from __future__ import annotations

import re
from typing import Any

import pytest

from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import (
    SENTENCES,
    as_data,
    chinese,
    count,
    localize,
    number,
    reason_document,
    render,
    stored_reason,
)
from scheduling.decide.reasons.chinese.no_place import STATES
from scheduling.decide.reasons.plain import in_chinese
from scheduling.decide.types import Policy, Reason
from tests.support.plan_factories import node, on, pending, portfolio, world
from tests.support.translation_check import check_translated

REQUIREMENTS: dict[str, Any] = {
    "weight": 2, "selector": "gpu=yes", "strategy": "pairs_trade 2", "feed": "replay",
    "feed_sha": "ab12cd34", "nodes": 6, "other": False,
}  # fmt: skip
STEP: dict[str, Any] = {
    "how": "lowest", "of": 3, "target": "node-3", "load_before": 2, "load_after": 4, "capacity": 8,
    "source": "node-1", "source_status": "lost", "source_load": 6, "source_capacity": 8,
    "weight": 2, "group": "alpha", "pinned": None,
}  # fmt: skip
STATE: dict[str, Any] = {
    **REQUIREMENTS, "node": "node-2", "state": "full", "load": 8, "capacity": 8, "wait_s": 12.4,
    "group": "alpha",
}  # fmt: skip
ROOM: dict[str, Any] = {
    **REQUIREMENTS, "states": [STATE], "more": {}, "group": "", "remedy": "more", "remedy_node": "",
}  # fmt: skip

LOST: dict[str, Any] = {
    "cause": "silent", "at": None, "silent_s": 31.0, "unheard_s": None, "limit_s": 30.0,
    "grace_s": 3.0, "portfolios": 3,
}  # fmt: skip

EDIT: dict[str, Any] = {
    "revision_name": "r3", "actor": "ginkgo", "ago_s": 5.2,
    "fields": [{"name": "quantity", "before": "100", "after": "200"}],
}  # fmt: skip

FULL = Reason("no_room", ROOM)
ARTIFACT: dict[str, Any] = {"artifact": "momentum 2.0", "artifact_python": ">=3.13"}

ENGLISH = [
    ("would_place", {"node": "node-2", "load_before": 3, "load_after": 5, "capacity": 8},
     "would be placed on node-2: load 3 → 5 of 8"),
    ("would_wait", {}, "would be pending"),
    ("in_handoff", {}, "is in a handoff already; wait until it has ended"),
    ("needs_start", {}, "does not run: it is stopped, halted or quarantined; start it first"),
    ("no_python", {**REQUIREMENTS, "python": "3.11", "accept_python": "", "found": ["3.12",
      "3.13"]},
     "last ran under Python 3.11: 0 of 6 nodes have it, found Python 3.12, 3.13; start a node "
     "with it, or allow another version with accept_python"),
    ("on_node", {**STATE, "state": "python", "node_python": "3.13", "python": "3.11",
      "accept_python": "3.12"},
     "node-2 has Python 3.13, but the portfolio last ran under Python 3.11 or 3.12: allow "
     "another version with accept_python"),
    ("no_match", {**REQUIREMENTS, "feed": "", "python": "3.11", "accept_python": ""},
     "needs gpu=yes and strategy pairs_trade 2 and Python 3.11: 0 of 6 nodes have all of it; "
     "install what is missing on one node or reduce the requirements"),
    ("older_revision", {"running": "r1", "wanted": "r2", "strategy": "pairs_trade 2",
      "node": "node-1", "having": 0, "nodes": 3},
     "runs r1: node-1 lacks strategy pairs_trade 2, which the wanted r2 needs, and 0 of 3 nodes "
     "have it; install it on node-1"),
    ("no_artifact_python", {**REQUIREMENTS, **ARTIFACT, "strategy": "", "found": ["3.11", "3.12"]},
     "needs Python >=3.13 for momentum 2.0: 0 of 6 nodes have it, found Python 3.11, 3.12; start "
     "a node with it, or build the artifact for one of these"),
    ("on_node", {**STATE, **ARTIFACT, "strategy": "", "state": "artifact", "node_python": "3.11"},
     "node-2 has Python 3.11, but the portfolio needs Python >=3.13 for momentum 2.0"),
    ("older_revision", {"running": "r1", "wanted": "r2", "strategy": "momentum 2",
      "node": "node-1", "node_python": "3.11", "having": 1, "nodes": 3, **ARTIFACT},
     "runs r1: node-1 has Python 3.11, the wanted r2 needs Python >=3.13 for momentum 2.0, and 1 "
     "of 3 nodes can run it; migrate it to such a node"),
    ("symbol_in_use", {"running": "r1", "wanted": "r2", "symbols": ["KO", "PEP"]},
     "runs r1 until positions are closed: it holds or has ordered KO, PEP, which the wanted r2 "
     "lacks"),
    ("place", STEP, "node-3 has the lowest load of 3 nodes: 2 → 4 of 8"),
    ("place", {**STEP, "of": 1}, "node-3 is the only eligible node: load 2 → 4 of 8"),
    ("place", {**STEP, "how": "failed"},
     "no other node has room; node-3 again, where it failed to start twice: load 2 → 4 of 8"),
    ("failover", {**STEP, "how": "prepared"},
     "node-1 is lost; node-3 has already prepared it: load 2 → 4 of 8"),
    ("drain", STEP, "node-1 is draining; node-3 has the lowest load of 3 nodes: 2 → 4 of 8"),
    ("pin", {**STEP, "how": "pinned"}, "pinned to node-3: load 2 → 4 of 8"),
    ("rebalance_cpu", {**STEP, "share": 21.2, "source_cpu": 82.4, "target_cpu": 11.9},
     "rebalances CPU: node-1 82 → 61 %, node-3 12 → 33 %"),
    ("rebalance", STEP, "rebalances load: node-1 6 → 4 of 8, node-3 2 → 4 of 8"),
    ("rule_broken", STEP,
     "node-1 no longer meets its requirements; node-3 has the lowest load of 3 nodes: 2 → 4 of 8"),
    ("spread", STEP,
     "another member of spread group alpha runs on node-1; node-3 has the lowest load of 3 "
     "nodes: 2 → 4 of 8"),
    ("no_nodes", REQUIREMENTS, "needs 2 places: there is no node yet; start one with run_node"),
    ("no_other_node", REQUIREMENTS, "needs 2 places elsewhere: there is no other node; add one"),
    ("no_live_node", REQUIREMENTS,
     "needs 2 places: 0 of 6 nodes are alive; start one again or add one"),
    ("no_selector", REQUIREMENTS,
     "needs gpu=yes: 0 of 6 nodes have it; add the label to one node or drop the selector"),
    ("no_strategy", {**REQUIREMENTS, "nodes": 1},
     "needs strategy pairs_trade 2: 0 of 1 node has it; install it on one node or change the "
     "portfolio's strategy"),
    ("no_feed", REQUIREMENTS,
     "needs feed replay with sha256 ab12cd34…: 0 of 6 nodes have it; install the same data on "
     "one node"),
    ("no_match", REQUIREMENTS,
     "needs gpu=yes and strategy pairs_trade 2 and feed replay: 0 of 6 nodes have all of it; "
     "install what is missing on one node or reduce the requirements"),
    ("too_heavy", {**REQUIREMENTS, "weight": 9, "largest": 8},
     "needs 9 places on one node: the largest of 6 nodes with gpu=yes has 8; raise a node's "
     "capacity or lower the weight"),
    ("no_room", {**ROOM, "nodes": 9, "more": {"cordoned": 1, "full": 7}},
     "needs 2 places: no room on 9 nodes with gpu=yes: node-2 8 of 8 and 8 more (1 cordoned, 7 "
     "full); add a node, raise a capacity or stop a portfolio"),
    ("pin_waits", {"state": STATE},
     "cannot move to its pinned node: node-2 is full: load 8 of 8, the portfolio needs 2; unpin it "
     "or make room there"),
    ("frozen", {"cause": "rebalance"},
     "its node no longer meets its requirements, but automatic moves are frozen; unfreeze, or "
     "migrate it manually"),
    ("frozen_failover", {"node": None},
     "its node is lost, but failover is frozen; unfreeze, or migrate it manually"),
    ("storm_hold", {"node": "node-2"},
     "node-2 was lost together with many others, so failover is held; it continues when they "
     "come back, or release the hold"),
    ("storm_hold", {"node": "node-2", "by": "ann"},
     "node-2 is lost, but ann holds failover; release the hold, or migrate it"),
    ("storm_late", {"node": "node-2", "late": ["node-3", "node-4"]},
     "node-2 is lost and node-3, node-4 are late: failover waits until it is known whether they "
     "were lost together"),
    ("after_storm", {"node": "node-2", "limit": 10},
     "node-2 was lost in a storm: failover continues with 10 per pass, and it waits for its turn"),
    ("backing_off", {"wait_s": 0.2}, "the last attempt failed; the next one starts in 1 s"),
    ("halted_all", {"actor": "ann", "why": "wrong prices", "halt": 3},
     "stopped with all others by ann: wrong prices; start it, or undo halt 3 to start all that "
     "it stopped"),
    ("makes_room", {**STEP, "for": "big"},
     "makes room for big: node-1 6 → 4 of 8, node-3 2 → 4 of 8"),
    ("waits_for_room", {"weight": 2, "node": "node-1", "moves": [{"portfolio": "a",
      "target": "node-3"}]}, "needs 2 places: node-1 has room once a is on node-3"),
    ("waits_for_room", {"weight": 2, "node": "node-1", "moves": []},
     "needs 2 places: node-1 has room once the portfolios leaving it have moved"),
    ("on_node", {**STATE, "state": "lost"}, "node-2 is lost"),
    ("on_node", {**STATE, "state": "flapping"},
     "node-2 was lost repeatedly: it can be chosen again in 12 s"),
    ("lost", LOST, "31 s without a heartbeat, limit 30 s"),
    ("lost", {**LOST, "cause": "closed", "at": "2026-03-02T20:32:38Z"},
     "its connection closed 20:32:38 UTC and it did not return in 3 s"),
    ("lost", {**LOST, "cause": "ended", "at": "2026-03-02T20:32:38Z"},
     "its process was found ended at 20:32:38 UTC"),
    ("lost", {**LOST, "cause": "unheard", "silent_s": 9.4, "unheard_s": 20.6},
     "9.4 s without a heartbeat after 20.6 s without an answer, limit 30 s"),
    ("suspect", {"closed_at": None, "silent_s": 19, "limit_s": 30.0},
     "19 s without a heartbeat, limit 30 s"),
    ("suspect", {"closed_at": "2026-03-02T20:32:38Z", "silent_s": 2, "limit_s": 30.0},
     "its connection closed 20:32:38 UTC"),
    ("node_lost", {"node": "node-3", "since": "2026-03-02T20:32:41Z", "loss": LOST},
     "node-3 is lost since 20:32:41 UTC: 31 s without a heartbeat, limit 30 s"),
    ("changed_meanwhile", {"edits": [EDIT, {**EDIT, "actor": "ann", "ago_s": 180.0,
      "revision_name": None, "fields": [{"name": "priority", "before": "0", "after": None}]}]},
     "r3 by ginkgo 5 s ago changed quantity 100 → 200; ann 3 min ago changed priority 0 → unset"),
    ("changed_meanwhile", {"edits": []}, "it is as it was again"),
    ("roll_out_deleted", {}, "was deleted"),
    ("roll_out_changed", {"revision": "r7"},
     "an operator changed it to r7 meanwhile, so it is left as it is"),
    ("roll_out_not_running", {"state": "stopped"},
     "is stopped, so it is left as it is; start it, then roll out again"),
    ("roll_out_interrupted", {"state": "halted", "revision": "r5"},
     "is halted before r5 was proven; it runs once it is started"),
    ("roll_out_no_owner", {"limit_s": 120.0}, "had no owner for 120 s, so it is left as it is"),
    ("roll_out_no_good", {"limit_s": 120.0},
     "had no proven revision to fall back to for 120 s, so it is left as it is; roll out again "
     "once its revision is good, or edit it by itself"),
    ("roll_out_in_handoff", {"limit_s": 120.0},
     "was in another handoff for 120 s, so it is left as it is"),
    ("roll_out_python", {"node": "node-2", "node_python": "3.11", "artifact": "momentum-demo 2.0",
      "artifact_python": ">=3.12"},
     "node-2 has Python 3.11, but the portfolio needs Python >=3.12 for momentum-demo 2.0, so it "
     "is left as it is; migrate it first"),
    ("roll_out_rejected", {"revision": "r5", "error": "ValueError: no"},
     "r5 was rejected: ValueError: no"),
    ("roll_out_late", {"revision": "r5", "limit_s": 300.0},
     "did not run r5 within 300 s; see its handoffs"),
    ("roll_out_unproven", {"revision": "r5", "limit_s": 660.0},
     "runs r5, which no event has proven within 660 s"),
    ("roll_out_not_begun", {}, "the roll-out ended before its turn, so it is left as it is"),
    ("roll_out_returned_stopped", {"state": "stopped", "revision": "r4"},
     "is stopped; it runs r4 once it is started"),
    ("roll_out_stopped", {"portfolio": "p1", "code": "roll_out_rejected",
      "params": {"revision": "r5", "error": "it broke"}},
     "stopped at p1: r5 was rejected: it broke"),
    ("roll_out_stopped", {"portfolio": "p1", "code": "", "params": {}}, "stopped at p1"),
    ("roll_out_stopped_by", {"actor": "ann", "reason": "wrong version"},
     "stopped by ann: wrong version"),
    ("roll_out_stopped_by", {"actor": "ann", "reason": ""}, "stopped by ann"),
]  # fmt: skip

CHINESE = [
    ("failover", {**STEP, "how": "prepared"}, "node-1 失联；node-3 已准备就绪：负载 2 → 4，共 8"),
    ("no_strategy", {**REQUIREMENTS, "other": True, "nodes": 2},
     "需要策略 pairs_trade 2：其他 2 个节点中 0 个具备；在一个节点上安装，或更换组合的策略"),
    ("no_room", {**ROOM, "nodes": 9, "more": {"cordoned": 1, "full": 7}},
     "需要 2 个空位：具备 gpu=yes 的 9 个节点都没有空位：node-2 8/8，"
     "另有 8 个（1 个已封锁，7 个已满）；增加节点、提高容量，或停止一个组合"),
    ("waits_for_room", {"weight": 2, "node": "node-1",
      "moves": [{"portfolio": "a", "target": "node-3"}]},
     "需要 2 个空位：a 移到 node-3 后，node-1 即有空位"),
    ("halted_all", {"actor": "ann", "why": "wrong prices", "halt": 3},
     "ann 紧急停止了全部组合：wrong prices；"
     "单独启动它，或撤销第 3 号紧急停止，重新启动当时停止的全部组合"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "params", "sentence"), ENGLISH)
def test_reason_renders_in_english(code: str, params: dict[str, Any], sentence: str) -> None:
    assert render(Reason(code, params)) == sentence


def test_every_code_is_covered_in_both_languages() -> None:
    assert {code for code, _, _ in ENGLISH} == set(SENTENCES) == set(chinese.SENTENCES)


def test_chinese_sentence_matches_english() -> None:
    for code, params, _ in ENGLISH:
        check_translated(Reason(code, params))


@pytest.mark.parametrize(("code", "params", "sentence"), CHINESE)
def test_reason_renders_in_chinese(code: str, params: dict[str, Any], sentence: str) -> None:
    assert render(Reason(code, params), "zh-hans") == sentence


@pytest.mark.parametrize(
    ("code", "key", "values"),
    [
        ("place", "how", ["pinned", "prepared", "suspect", "failed", "lowest"]),
        ("place", "pinned", ["node-9", None]),
        ("failover", "source_status", ["left", "lost"]),
        ("failover", "source", [None, "node-1"]),
        ("no_match", "selector", ["", "gpu=yes, zone=hk"]),
        ("too_heavy", "other", [True, False]),
        ("no_room", "remedy", ["cordoned", "draining", "flapping", "spread", "more"]),
        ("no_room", "more", [{state: 2} for state in ("spread", "busy", "flapping", "cordoned")]),
        ("frozen", "cause", ["drain", "pin", "rebalance"]),
        ("storm_hold", "node", [None, "node-2"]),
        ("storm_late", "late", [["node-3"], ["node-3", "node-4"]]),
        ("halted_all", "why", ["", "wrong prices"]),
        ("on_node", "state", [*STATES, "fits", "same_node", "failed_there"]),
    ],
)
def test_chinese_distinguishes_the_same_parameter_values(
    code: str, key: str, values: list[Any]
) -> None:
    given = next(params for known, params, _ in ENGLISH if known == code)
    for value in values:
        check_translated(Reason(code, {**given, "remedy_node": "node-6", key: value}))
    rendered = {render(Reason(code, {**given, key: value}), "zh") for value in values}
    assert len(rendered) == len({render(Reason(code, {**given, key: value})) for value in values})


@pytest.mark.parametrize(
    ("languages", "sentence"),
    [
        (("zh", "zh-cn", "zh-hans", "zh-Hans"), "上次尝试失败；5 秒后再试"),
        (("en", "en-gb", "de", "", None), "the last attempt failed; the next one starts in 5 s"),
    ],
)
def test_other_languages_than_chinese_render_in_english(
    languages: tuple[str | None, ...], sentence: str
) -> None:
    reason = Reason("backing_off", {"wait_s": 5})
    assert {render(reason, language) for language in languages} == {sentence}


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_invalid_parameters_never_raise(language: str) -> None:
    for code, params, _ in ENGLISH:
        for key in params:
            without = {name: value for name, value in params.items() if name != key}
            bad: tuple[Any, ...] = (None, "x", [1], {}, 1e400)
            for wrong in (without, *({**params, key: value} for value in bad)):
                assert render(Reason(code, wrong), language)


def test_every_remedy_is_an_action() -> None:
    for remedy in ("cordoned", "draining", "flapping", "spread", "more"):
        sentence = render(Reason("no_room", {**ROOM, "remedy": remedy, "remedy_node": "node-6"}))
        assert re.search(r"; (add|uncordon|undo|wait) .+", sentence)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_reason_with_an_unknown_code_or_missing_parameters_renders_as_its_code(
    language: str,
) -> None:
    assert render(Reason("some_new_code"), language) == "some new code"
    assert render(Reason("too_heavy", {"weight": 3}), language) == "too heavy"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("waits for something else", as_data(FULL)),
        (render(FULL), None),
        (render(FULL), as_data(Reason("no_room", {**ROOM, "weight": 3}))),
        (render(FULL), {}),
        (render(FULL), {"code": "no_room"}),
        (render(FULL), {"code": "no_room", "params": None}),
        (render(FULL), "no_room"),
        ("", as_data(Reason("", {}))),
    ],
)
def test_reason_text_unlike_its_data_is_translated_without_the_data(text: str, why: Any) -> None:
    assert localize(text, why, "zh-hans") == in_chinese(text)
    assert stored_reason(text, why) is None


def test_reason_document_has_code_params_and_sentence() -> None:
    assert reason_document(Reason("backing_off", {"wait_s": 5}), "zh-hans") == {
        "code": "backing_off",
        "params": {"wait_s": 5},
        "reason": "上次尝试失败；5 秒后再试",
    }


def test_no_room_reason_lists_six_nodes_and_counts_the_others() -> None:
    nodes = [node(i, name=f"n-{i:02}", capacity=0 if i < 9 else 1) for i in range(1, 10)]
    assert pending(make_plan(world(nodes, [*on(9, "a"), portfolio("p")]), Policy())) == {
        "p": "needs 1 place: no room on 9 nodes: n-01 0 of 0, n-02 0 of 0, n-03 0 of 0, "
        "n-04 0 of 0, n-05 0 of 0, n-06 0 of 0 and 3 more (3 full); "
        "add a node, raise a capacity or stop a portfolio"
    }


def test_reasons_format_numbers_and_plurals() -> None:
    given = (1, 2.0, 1.9996, 2.5, 9862904)
    assert [number(n) for n in given] == ["1", "2", "2", "2.5", "9,862,904"]
    assert [count(n, "node") for n in (1, 0, 2)] == ["1 node", "0 nodes", "2 nodes"]
