"""Which revision a grant gives, by what the nodes can run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scheduling.decide import types
from scheduling.decide.granted_revision import revision_choices, with_granted_revision
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.planner.targets import choose_target, granted_revision, targets
from scheduling.decide.reasons import render
from scheduling.decide.what_if.hypothetical import Scenario, apply_scenario
from tests.support.plan_factories import node, pending, places, portfolio, world

ONE, TWO, THREE = (types.RevisionChoice(number, "sma", number) for number in (1, 2, 3))


def choices(**given: Any) -> list[int]:
    known: dict[str, Any] = {"running": None, "good": ONE, "wanted": TWO, "owned": False}
    return [v.revision for v in revision_choices(**{**known, "attempts": 0, **given})]


def test_start_prefers_the_wanted_revision_and_after_a_failure_the_good_one() -> None:
    assert choices() == [2, 1]
    assert choices(attempts=1) == [1, 2]
    assert choices(attempts=1, good=None) == [2]
    assert choices(wanted=None) == [1]  # the wanted revision was rejected
    assert choices(wanted=ONE) == [1]


def test_failover_prefers_the_good_revision_then_the_running_one() -> None:
    assert choices(owned=True, running=TWO, wanted=THREE) == [1, 2, 3]
    assert choices(owned=True, running=ONE) == [1, 2]
    assert choices(owned=True, running=TWO, good=None) == [2]


def two_choices(*order: types.RevisionChoice, **changes: Any) -> types.PortfolioView:
    first = order[0]
    return portfolio(
        "p", revision=first.revision, strategy="sma", strategy_version=first.strategy_version,
        revision_choices=order, **changes,
    )  # fmt: skip


def test_first_revision_choice_that_a_node_can_run_is_granted_or_else_the_first() -> None:
    waiting = two_choices(TWO, ONE)
    for versions, revision in (({1, 2}, 2), ({1}, 1), (set(), 2)):

        def has_version(required: types.Requirements, found: set[int] = versions) -> bool:
            return required.strategy_version in found

        granted = with_granted_revision(waiting, has_version)
        assert (granted.revision, granted.requirements.strategy_version) == (revision, revision)


def plan_on(*nodes: Any, view: types.PortfolioView) -> tuple[types.Snapshot, types.Plan]:
    snapshot = world(nodes, [view])
    return snapshot, make_plan(snapshot, types.Policy())


def test_unrunnable_wanted_revision_falls_back_to_good() -> None:
    old = {"strategies": {"sma": 1}}
    snapshot, plan = plan_on(node(1, **old), node(2, **old), view=two_choices(TWO, ONE))
    assert places(plan) == {"p": "node-1"}
    assert plan.place[0].portfolio.revision == 1
    assert granted_revision(snapshot, "p") == 1
    assert [answer.feasible for answer in targets(snapshot, "p")] == [True, True]
    assert not isinstance(choose_target(snapshot, "p"), types.Reason)


def test_cordoned_node_does_not_count_as_able_to_run() -> None:
    new = node(1, strategies={"sma": 2}, cordoned=True)
    _, plan = plan_on(new, node(2, strategies={"sma": 1}), view=two_choices(TWO, ONE))
    assert (places(plan), plan.place[0].portfolio.revision) == ({"p": "node-2"}, 1)


def test_pending_reason_names_what_the_first_revision_choice_needs() -> None:
    _, plan = plan_on(node(1), node(2), view=two_choices(TWO, ONE))
    assert pending(plan)["p"].startswith("needs strategy sma 2: 0 of 2 nodes have it")


def test_failover_needs_the_good_revision_and_a_move_the_running_one() -> None:
    runs = replace(two_choices(TWO, node=1), revision_choices=(ONE, TWO))
    alive = world([node(1, strategies={"sma": 2}), node(2, strategies={"sma": 1})], [runs])
    assert [answer.feasible for answer in targets(alive, "p")] == [False, False]
    (move,) = make_plan(apply_scenario(alive, Scenario.of(["node-1"], [], [])), types.Policy()).move
    assert (move.cause, move.target.name, move.portfolio.revision) == ("failover", "node-2", 1)


def test_plan_explains_an_older_running_revision_until_its_node_can_run_the_wanted_one() -> None:
    runs = two_choices(ONE, TWO, node=1, wanted=TWO)
    nodes = [node(1, strategies={"sma": 1}), node(2, strategies={"sma": 1})]
    (older,) = make_plan(world(nodes, [runs]), types.Policy()).older
    assert older.reason.code == "older_revision"
    nodes[0] = replace(nodes[0], strategies={"sma": 2})
    assert make_plan(world(nodes, [runs]), types.Policy()).older == ()


def test_runnable_wanted_revision_does_not_suspend_other_rules() -> None:
    runs = two_choices(ONE, TWO, node=1, wanted=TWO, selector={"zone": "eu"})
    both = {"strategies": {"sma": 1}, "labels": {"zone": "eu"}}
    nodes = [node(1, strategies={"sma": 2}, labels={"zone": "eu"}), node(2, **both)]
    assert make_plan(world(nodes, [runs]), types.Policy()).move == ()  # it is reloaded there
    nodes[0] = replace(nodes[0], labels={"zone": "us"})
    (move,) = make_plan(world(nodes, [runs]), types.Policy()).move
    assert (move.cause, move.target.name) == ("rebalance", "node-2")


def needing(*pythons: str) -> types.ArtifactNeeds:
    return types.ArtifactNeeds("momentum 2.0", " or ".join(pythons), pythons)


def test_artifact_is_judged_by_python_and_never_by_an_installed_version() -> None:
    wanted = types.RevisionChoice(2, "momentum", 7, needing("3.13"))
    old = types.RevisionChoice(1, "momentum", 6, needing("3.11"))
    view = two_choices(wanted, old, artifact=wanted.artifact)
    for python, revision in (("3.13", 2), ("3.11", 1), ("", 2)):  # "": unknown counts as fitting
        snapshot, plan = plan_on(node(1, python=python), view=view)
        assert places(plan) == {"p": "node-1"}
        assert granted_revision(snapshot, "p") == revision


def test_portfolio_whose_artifact_no_node_can_run_waits_for_its_python() -> None:
    alone = types.RevisionChoice(2, "momentum", 1, needing("3.13"))
    view = two_choices(alone, artifact=alone.artifact)
    _, plan = plan_on(node(1, python="3.11"), node(2, python="3.12"), view=view)
    (waiting,) = plan.pending
    assert waiting.reason.code == "no_artifact_python"
    assert waiting.reason.params["found"] == ["3.11", "3.12"]


def test_node_that_cannot_run_the_wanted_artifact_keeps_the_old_revision_and_says_so() -> None:
    wanted = types.RevisionChoice(2, "momentum", 1, needing("3.13"))
    view = portfolio("p", node=1, phase="running", revision=1, wanted=wanted)
    _, plan = plan_on(node(1, python="3.11"), view=view)
    (older,) = plan.older
    assert "node-1 has Python 3.11, the wanted r2 needs Python 3.13" in render(older.reason)
    assert "Python 3.13" in render(older.reason, "zh-hans")
    assert not plan_on(node(1, python="3.13"), view=view)[1].older
