"""What people may ask for: each refusal with its code and sentence, and that it changed nothing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.core import serializers
from django.utils import translation

from portfolios.models import Portfolio, Revision
from scheduling import operations
from scheduling.errors import Invalid, Refused
from scheduling.models import Control, Event, Handoff, Node, Run
from scheduling.observe.localized_reason import localized_text
from scheduling.operations import NewPortfolio, moves
from scheduling.timing import Timing
from tests.integration.passes.test_passes import counted
from tests.support.factories import (
    FakeNode,
    expire_handoff,
    expire_lease,
    lose,
    make_node,
    make_portfolio,
    make_trader,
    newest_handoff,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def everything() -> list[str]:
    """Return every row that a request could have changed."""
    models = (Portfolio, Revision, Run, Handoff, Node, Control, Event)
    return [serializers.serialize("json", m.objects.order_by("pk")) for m in models]


def refused(act: Callable[[], Any]) -> Refused:
    """Return the refusal of `act`, which changed nothing."""
    before = everything()
    with pytest.raises(Refused) as caught:
        act()
    assert everything() == before
    return caught.value


def fields(act: Callable[[], Any]) -> list[str]:
    """Return the names of the fields that `act` was refused for."""
    refusal = refused(act)
    assert isinstance(refusal, Invalid)
    return sorted({e["field"].split(".")[0] for e in refusal.extra["errors"]})


def new(**given: Any) -> NewPortfolio:
    return NewPortfolio(**{"name": "p", "strategy": "canary", **given})


@pytest.fixture
def node() -> FakeNode:
    return make_node("node-1")


# --- create --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "no slug!"}, "name"),
        ({"name": "n" * 81}, "name"),
        ({"strategy": "nonsense"}, "strategy"),
        ({"config": {"speed": 3}}, "config"),
        ({"strategy": "sma_cross", "symbols": ["IBM"], "config": {"fast": "quick"}}, "config"),
        ({"strategy": "buy_and_hold"}, "symbols"),
        ({"strategy": "buy_and_hold", "symbols": []}, "symbols"),
        ({"symbols": ["NOSUCH"]}, "symbols"),
        ({"limits": {"largest_order": "-1"}}, "limits"),
        ({"limits": {"nonsense": "1"}}, "limits"),
        ({"weight": 0}, "weight"),
        ({"weight": -2}, "weight"),
        ({"weight": 1.5}, "weight"),
        ({"weight": True}, "weight"),
        ({"priority": "high"}, "priority"),
        ({"selector": {"zone": 3}}, "selector"),
        ({"selector": ["zone"]}, "selector"),
        ({"spread_group": "g" * 81}, "spread_group"),
        ({"spread_hard": "yes"}, "spread_hard"),
        ({"catch_up": "maybe"}, "catch_up"),
        ({"catch_up": [1]}, "catch_up"),
        ({"weight": [1]}, "weight"),
        ({"starting_cash": Decimal(-1)}, "starting_cash"),
        ({"starting_cash": Decimal("NaN")}, "starting_cash"),
        ({"desired_state": "asleep"}, "desired_state"),
        ({"desired_state": [1]}, "desired_state"),
    ],
    ids=str,
)
def test_an_invalid_field_is_named(given: dict[str, Any], field: str) -> None:
    assert fields(lambda: operations.create_portfolio(new(**given), actor="ann")) == [field]


def test_an_invalid_amount_is_quoted() -> None:
    bad = new(starting_cash=Decimal(-5))
    refusal = refused(lambda: operations.create_portfolio(bad, actor="ann"))
    assert "starting_cash is -5; give an amount over 0, 1,000,0" in refusal.message


def test_a_trader_without_symbols_is_told_what_to_give() -> None:
    refusal = refused(
        lambda: operations.create_portfolio(new(strategy="buy_and_hold"), actor="ann")
    )
    assert refusal.message == (
        "symbols: buy_and_hold trades the symbols it is given and was given none: list them, such "
        'as ["IBM", "XOM"], or give ["*"] for every symbol of the feed.'
    )


def test_every_symbol_may_be_asked_for_and_a_canary_sees_them_anyway() -> None:
    every = new(name="every", strategy="buy_and_hold", symbols=["*"])
    operations.create_portfolio(every, actor="ann")
    operations.create_portfolio(new(name="canary"), actor="ann")
    assert [r.symbols for r in Revision.objects.order_by("portfolio__name")] == [[], ["*"]]


def test_a_name_that_is_taken_is_refused() -> None:
    make_portfolio("p")
    refusal = refused(lambda: make_portfolio("p"))
    assert (refusal.code, refusal.message) == (
        "name_taken",
        "A portfolio named p already exists; choose another name.",
    )


# --- names of nothing ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        lambda: operations.revise_portfolio("none", {"weight": 2}, actor="ann"),
        lambda: operations.delete_portfolio("none", actor="ann"),
        lambda: operations.migrate("none", "node-1", actor="ann"),
        lambda: operations.reload("none", actor="ann"),
        lambda: operations.start("none", actor="ann"),
        lambda: operations.stop("none", actor="ann"),
        lambda: operations.unpin("none", actor="ann"),
        lambda: operations.drain("none", actor="ann"),
        lambda: operations.undrain("none", actor="ann"),
        lambda: operations.cordon("none", actor="ann"),
        lambda: operations.uncordon("none", actor="ann"),
    ],
)
def test_what_does_not_exist_is_not_found(act: Callable[[], Any]) -> None:
    refusal = refused(act)
    assert (refusal.code, refusal.status) == ("not_found", 404)
    assert refusal.message.startswith("There is no ")


# --- revise --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "q"}, "name"),
        ({"starting_cash": "1"}, "starting_cash"),
        ({"nonsense": 1}, "nonsense"),
        ({"weight": -1}, "weight"),
        ({"strategy": "nonsense"}, "strategy"),
        ({"limits": {"largest_order": "many"}}, "limits"),
    ],
    ids=str,
)
def test_an_invalid_change_names_its_field(
    node: FakeNode, changes: dict[str, Any], field: str
) -> None:
    make_trader("p", node)
    assert fields(lambda: operations.revise_portfolio("p", changes, actor="ann")) == [field]


def test_a_change_of_nothing_makes_no_revision(node: FakeNode) -> None:
    hand = make_trader("p", node)
    portfolio, handoff = operations.revise_portfolio(
        "p", {"config": {}, "symbols": []}, actor="ann"
    )
    assert (portfolio.revision, handoff) == (1, None)
    assert hand.run().phase == "running"


def test_a_placement_change_makes_no_revision_but_reaches_the_node(node: FakeNode) -> None:
    make_trader("p", node)
    before = Node.objects.get().desired_version
    portfolio, handoff = operations.revise_portfolio("p", {"catch_up": "full"}, actor="ann")
    assert (portfolio.revision, handoff) == (1, None)
    assert Node.objects.get().desired_version > before
    assert node.desired("run")[0].catch_up == "full"


def test_a_change_of_a_stopped_portfolio_makes_a_revision_only() -> None:
    make_portfolio("p", desired_state="stopped")
    portfolio, handoff = operations.revise_portfolio(
        "p", {"limits": {"largest_order": "5"}}, actor="ann"
    )
    assert (portfolio.revision, handoff) == (2, None)


# --- migrate -------------------------------------------------------------------------------------


def test_a_move_to_a_node_that_cannot_take_it_says_why(node: FakeNode) -> None:
    hand = make_trader("p", node, weight=2, selector={})
    targets = {
        name: make_node(name, capacity=2) for name in ("lost", "cordoned", "draining", "full")
    }
    make_node("small", capacity=1)
    make_trader("other", targets["full"])
    lose(targets["lost"])
    operations.cordon("cordoned", actor="ann")
    operations.drain("draining", actor="ann")
    Node.objects.create(name="never")
    Node.objects.filter(name="small").update(labels={})
    asked = ("node-1", "lost", "cordoned", "draining", "full", "small", "never")
    refusals = {n: refused(lambda n=n: operations.migrate("p", n, actor="ann")) for n in asked}  # type: ignore[misc]
    assert {name: refusal.code for name, refusal in refusals.items()} == {
        "node-1": "same_node",
        "lost": "node_lost",
        "cordoned": "node_cordoned",
        "draining": "node_cordoned",
        "full": "node_full",
        "small": "node_full",
        "never": "node_lost",
    }
    assert all(r.status == 409 and r.message.endswith(".") for r in refusals.values())
    assert hand.commit(1) == "ok"


def test_a_move_to_a_node_that_does_not_exist_is_not_found(node: FakeNode) -> None:
    make_trader("p", node)
    assert refused(lambda: operations.migrate("p", "node-9", actor="ann")).code == "not_found"


def test_a_move_to_a_node_that_lacks_its_label_says_so(node: FakeNode) -> None:
    Node.objects.update(labels={"zone": "a"})
    make_trader("p", node, selector={"zone": "a"})
    make_node("node-2", labels={"zone": "b"})
    assert refused(lambda: operations.migrate("p", "node-2", actor="ann")).code == "node_lacks"


def test_a_move_anywhere_without_another_node_has_no_room(node: FakeNode) -> None:
    make_trader("p", node)
    assert refused(lambda: operations.migrate("p", None, actor="ann")).code == "no_room"


def test_a_move_to_a_named_node_pins_and_a_move_anywhere_does_not(node: FakeNode) -> None:
    hand, other = make_trader("p", node), make_trader("q", node)
    target = make_node("node-2")
    operations.migrate("p", "node-2", actor="ann")
    operations.migrate("q", None, actor="ann")
    assert (hand.run().pinned_node, other.run().pinned_node) == (target.row, None)
    operations.unpin("p", actor="ann")
    operations.unpin("p", actor="ann")
    assert hand.run().pinned_node is None
    assert Event.objects.filter(kind="unpinned", actor="ann").count() == 1


def test_a_move_anywhere_ends_the_pin_that_would_take_it_back(node: FakeNode) -> None:
    hand = make_trader("p", node)
    make_node("node-2")
    Run.objects.filter(pk=hand.portfolio.pk).update(pinned_node=node.row)
    assert operations.migrate("p", None, actor="ann").target_node == Node.objects.get(name="node-2")
    assert hand.run().pinned_node is None
    assert Event.objects.filter(kind="unpinned", actor="ann", node=node.row).count() == 1


def test_a_move_keeps_the_revision_that_runs(node: FakeNode) -> None:
    hand = make_trader("p", node)
    make_node("node-2")
    Portfolio.objects.filter(pk=hand.portfolio.pk).update(revision=1)
    assert operations.migrate("p", "node-2", actor="ann").to_revision == 1


@pytest.mark.parametrize("phase", ["halted", "quarantined"])
def test_a_halted_or_quarantined_portfolio_must_be_started_before_it_is_moved(
    node: FakeNode, phase: str
) -> None:
    portfolio = make_portfolio("p")
    Run.objects.filter(pk=portfolio.pk).update(phase=phase)
    refusal = refused(lambda: operations.migrate("p", "node-1", actor="ann"))
    assert (refusal.code, refusal.message) == (
        "already_stopped",
        f"p cannot be moved: it is {phase}. Start it first.",
    )


def test_a_move_from_a_lost_node_is_a_failover(node: FakeNode) -> None:
    make_trader("p", node)
    make_node("node-2")
    lose(node)
    assert operations.migrate("p", "node-2", actor="ann").kind == "failover"


@pytest.mark.parametrize(
    "act",
    [
        lambda: operations.migrate("p", "node-3", actor="bob"),
        lambda: operations.migrate("p", None, actor="bob"),
        lambda: operations.reload("p", actor="bob"),
    ],
)
def test_while_one_handoff_is_under_way_another_is_refused_with_its_id(
    node: FakeNode, act: Callable[[], Any]
) -> None:
    make_trader("p", node)
    make_node("node-2")
    make_node("node-3")
    first = operations.migrate("p", "node-2", actor="ann")
    refusal = refused(act)
    assert (refusal.code, refusal.extra) == ("handoff_in_progress", {"handoff": first.pk})
    assert refusal.message == (
        f"p is already in handoff {first.pk} (migrate, preparing); wait until it has ended."
    )


# --- migrate several ------------------------------------------------------------------------------


def outcomes(names: list[str], target: str | None) -> dict[str, str]:
    """Return portfolio → the node it moves to, or the code of its refusal."""
    found = operations.migrate_several(names, target, actor="ann", reason="rack 7")
    return {
        each.portfolio: str(each.handoff.target_node) if each.handoff else str(each.refused.code)  # type: ignore[union-attr]
        for each in found
    }


def test_several_move_at_once_and_one_that_cannot_holds_back_none(node: FakeNode) -> None:
    hands = {name: make_trader(name, node) for name in ("a", "b", "c")}
    make_trader("moving", node)
    picky = make_trader("picky", node)
    Portfolio.objects.filter(pk=picky.portfolio.pk).update(selector={"zone": "hk"})
    target = make_node("node-2", capacity=3)
    make_node("node-3")
    first = operations.migrate("moving", "node-3", actor="ann")
    asked = ["picky", "moving", "c", "b", "a"]
    found = operations.migrate_several(asked, "node-2", actor="ann", reason="rack 7")
    assert [each.portfolio for each in found] == asked
    refusals = {each.portfolio: each.refused for each in found if each.refused}
    assert {name: (each.code, str(each)) for name, each in refusals.items()} == {
        "picky": ("node_lacks", "picky cannot move to node-2: node-2 lacks zone=hk."),
        "moving": (
            "handoff_in_progress",
            f"moving is already in handoff {first.pk} (migrate, preparing); "
            "wait until it has ended.",
        ),
    }
    for hand in hands.values():
        begun = newest_handoff(hand.portfolio)
        assert (begun.target_node, begun.reason, begun.requested_by) == (
            target.row,
            "rack 7",
            "ann",
        )
        assert hand.run().pinned_node == target.row
    assert Event.objects.filter(kind="pinned", actor="ann", node=target.row).count() == 3


@pytest.mark.parametrize("target", ["node-2", None])
def test_moving_several_costs_as_many_statements_as_moving_one(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, target: str | None
) -> None:
    for name in "abcd":
        make_trader(name, node)
    Run.objects.update(pinned_node=node.row)
    make_node("node-2")
    with counted(monkeypatch) as of_one:
        assert outcomes(["a"], target) == {"a": "node-2"}
    with counted(monkeypatch) as of_three:
        assert set(outcomes(["b", "c", "d"], target).values()) == {"node-2"}
    assert len(of_three) == len(of_one)


def test_of_several_as_many_move_as_the_node_has_room_for(node: FakeNode) -> None:
    for name in ("a", "b", "c"):
        make_trader(name, node)
    make_node("node-2", capacity=2)
    assert outcomes(["c", "a", "b"], "node-2") == {"c": "node_full", "a": "node-2", "b": "node-2"}
    assert outcomes(["c"], None) == {"c": "no_room"}


def test_several_that_the_balancer_places_are_spread_and_lose_their_pins(node: FakeNode) -> None:
    hands = [make_trader(name, node) for name in ("a", "b")]
    Run.objects.update(pinned_node=node.row)
    make_node("node-2")
    make_node("node-3")
    assert outcomes(["a", "b"], None) == {"a": "node-2", "b": "node-3"}
    assert [hand.run().pinned_node for hand in hands] == [None, None]


def test_of_several_one_that_is_stopped_before_the_locks_stays_and_the_others_move(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        make_trader(name, node)
    make_node("node-2")
    observe = moves.observe

    def observe_and_lose_the_race(times: Timing) -> Any:
        seen = observe(times)
        operations.stop("a", actor="bob")
        return seen

    monkeypatch.setattr(moves, "observe", observe_and_lose_the_race)
    assert outcomes(["a", "b"], "node-2") == {"a": "already_stopped", "b": "node-2"}
    assert Event.objects.filter(kind="pinned", actor="ann").count() == 1


def test_several_are_refused_as_a_whole_if_one_or_the_node_does_not_exist(node: FakeNode) -> None:
    make_trader("a", node)
    make_node("node-2")
    Node.objects.create(name="never")
    asked = [(["a", "nix"], "node-2"), (["a"], "node-9"), (["a"], "never"), ([], "node-2")]
    found = [
        refused(lambda n=n, t=t: operations.migrate_several(n, t, actor="ann"))  # type: ignore[misc]
        for n, t in asked
    ]
    assert [each.code for each in found] == ["not_found", "not_found", "node_lost", "invalid"]
    assert "There is no portfolio named nix." in str(found[0])
    too_many = [f"p{i}" for i in range(101)]
    refusal = refused(lambda: operations.migrate_several(too_many, None, actor="ann"))
    assert refusal.extra["errors"][0]["message"] == (
        "These are 101 portfolios; one request moves 1 to 100."
    )


# --- reload --------------------------------------------------------------------------------------


def test_a_reload_without_an_owner_is_refused() -> None:
    make_portfolio("p")
    refusal = refused(lambda: operations.reload("p", actor="ann"))
    assert (refusal.code, refusal.message) == (
        "already_stopped",
        "p cannot be reloaded: no node runs it (pending). Start it instead.",
    )


def test_a_reload_to_a_missing_revision_is_not_found(node: FakeNode) -> None:
    make_trader("p", node)
    refusal = refused(lambda: operations.reload("p", actor="ann", revision=7))
    assert (refusal.code, refusal.status) == ("not_found", 404)
    assert refusal.message == "p has no revision r7."
    with translation.override("zh-hans"):
        assert localized_text(refusal.message) == "p 没有修订 r7。"


def test_a_reload_on_a_node_without_a_lease_changes_not_even_the_revision(node: FakeNode) -> None:
    hand = make_trader("p", node)
    operations.revise_portfolio("p", {"limits": {"largest_order": "5"}}, actor="ann")
    node.fails(newest_handoff(hand.portfolio), strategy=True)
    expire_lease(node)
    assert refused(lambda: operations.reload("p", actor="ann")).code == "node_lost"
    assert Revision.objects.get(number=2).status == "rejected"


# --- start and stop ------------------------------------------------------------------------------


def test_starting_a_running_and_stopping_a_stopped_portfolio_are_refused(node: FakeNode) -> None:
    make_trader("p", node)
    refusal = refused(lambda: operations.start("p", actor="ann"))
    assert (refusal.code, refusal.message) == ("already_running", "p is already running.")
    operations.stop("p", actor="ann")
    refusal = refused(lambda: operations.stop("p", actor="ann"))
    assert (refusal.code, refusal.message) == ("already_stopped", "p is already stopping.")
    expire_handoff(newest_handoff(Portfolio.objects.get()))
    refusal = refused(lambda: operations.stop("p", actor="ann"))
    assert refusal.message == "p is already stopped."


def test_a_start_places_at_once_or_names_the_reason(node: FakeNode) -> None:
    make_portfolio("p", desired_state="stopped")
    handoff = operations.start("p", actor="ann")
    assert handoff is not None
    assert (handoff.kind, handoff.target_node) == ("place", node.row)
    heavy = make_portfolio("heavy", desired_state="stopped", weight=6)
    assert operations.start("heavy", actor="ann") is None
    at = Run.objects.get(pk=heavy.pk)
    assert at.phase == "pending"
    assert "6" in at.reason


def test_stopping_a_portfolio_supersedes_its_placement(node: FakeNode) -> None:
    portfolio = make_portfolio("p")
    operations.migrate("p", "node-1", actor="ann")
    assert operations.stop("p", actor="ann").kind == "stop"
    assert Run.objects.get(pk=portfolio.pk).phase == "stopped"
    assert node.desired("prepare") == []


def test_a_quarantined_portfolio_can_be_stopped() -> None:
    portfolio = make_portfolio("p")
    Run.objects.filter(pk=portfolio.pk).update(phase="quarantined", reason="five deaths")
    operations.stop("p", actor="ann")
    assert Run.objects.get(pk=portfolio.pk).phase == "stopped"


# --- delete --------------------------------------------------------------------------------------


def test_a_deleted_portfolio_is_gone_from_every_interface_and_keeps_its_rows(
    node: FakeNode,
) -> None:
    hand = make_trader("p", node)
    operations.delete_portfolio("p", actor="ann")
    assert refused(lambda: operations.start("p", actor="ann")).code == "not_found"
    assert refused(lambda: operations.delete_portfolio("p", actor="ann")).code == "not_found"
    assert Portfolio.objects.filter(pk=hand.portfolio.pk).exists()


# --- nodes and the fleet -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "undo", "flag"),
    [
        (operations.drain, operations.undrain, "draining"),
        (operations.cordon, operations.uncordon, "cordoned"),
    ],
)
def test_marks_of_a_node_are_idempotent_and_recorded_once(
    node: FakeNode, act: Callable[..., Node], undo: Callable[..., Node], flag: str
) -> None:
    for _ in range(2):
        assert getattr(act("node-1", actor="ann", reason="repair"), flag) is True
    for _ in range(2):
        assert getattr(undo("node-1", actor="ann"), flag) is False
    told = Event.objects.filter(node=node.row, actor="ann").count()
    assert told == 2


def test_a_freeze_notifies_nodes_and_is_lifted_once(node: FakeNode) -> None:
    before = Node.objects.get().desired_version
    operations.freeze(actor="ann", reason="repair", failover=True)
    control = Control.objects.get()
    assert (control.frozen_by, control.frozen_reason, control.freeze_failover) == (
        "ann",
        "repair",
        True,
    )
    assert Node.objects.get().desired_version > before
    operations.unfreeze(actor="ann")
    operations.unfreeze(actor="ann")
    assert Control.objects.get().frozen_at is None
    assert Event.objects.filter(kind="unfrozen").count() == 1
