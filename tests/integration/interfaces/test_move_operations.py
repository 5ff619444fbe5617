"""Moves that people ask for, of one portfolio or several: what begins, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from portfolios.models import Portfolio
from scheduling import operations
from scheduling.errors import NotFound
from scheduling.models import Event, Node, Run
from scheduling.operations import moves
from scheduling.timing import timing
from tests.support.api_client import counted_transactions
from tests.support.factories import (
    FakeNode,
    lose,
    make_node,
    make_portfolio,
    make_trader,
    newest_handoff,
)
from tests.support.patches import follow
from tests.support.refusals import refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def test_refused_move_says_why_the_target_node_cannot_take_the_portfolio(node: FakeNode) -> None:
    hand = make_trader("p", node, weight=2)
    names = ("lost", "cordoned", "draining", "full")
    targets = {name: make_node(name, capacity=2) for name in names}
    make_node("small", capacity=1)
    make_trader("other", targets["full"])
    lose(targets["lost"])
    operations.cordon("cordoned", actor="ann")
    operations.drain("draining", actor="ann")
    Node.objects.create(name="never")
    make_node("elsewhere", labels={"zone": "b"})
    Node.objects.exclude(name="elsewhere").update(labels={"zone": "a"})
    Portfolio.objects.filter(name="p").update(selector={"zone": "a"})
    why = {"node-1": "same_node", "cordoned": "node_cordoned", "draining": "node_cordoned"}
    why |= {"lost": "node_lost", "never": "node_lost", "full": "node_full", "small": "node_full"}
    why |= {"elsewhere": "node_lacks"}
    refusals = {n: refused(lambda n=n: operations.migrate("p", n, actor="ann")) for n in why}  # type: ignore[misc]
    assert {name: refusal.code for name, refusal in refusals.items()} == why
    assert all(r.status == 409 and r.message.endswith(".") for r in refusals.values())
    assert hand.commit(1) == "ok"


def test_a_move_to_a_node_that_does_not_exist_is_not_found(node: FakeNode) -> None:
    make_trader("p", node)
    for target, code in (("node-9", "not_found"), (None, "no_room")):
        refusal = refused(partial(operations.migrate, "p", target, actor="ann"))
        assert refusal.code == code


@pytest.mark.parametrize("target", ["node-1", None])
def test_a_portfolio_deleted_before_the_fleet_is_read_is_not_found(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, target: str | None
) -> None:
    make_trader("p", node)
    fleet = moves.observe(timing())
    fleet.snapshot = replace(fleet.snapshot, portfolios=())
    monkeypatch.setattr(moves, "observe", lambda times: fleet)
    assert refused(lambda: operations.migrate("p", target, actor="ann")).code == "not_found"
    Run.objects.update(phase="halted")
    with pytest.raises(NotFound):
        operations.start("p", actor="ann")


def test_a_move_to_a_named_node_pins_and_a_move_to_any_node_ends_the_pin(node: FakeNode) -> None:
    hand, other = make_trader("p", node), make_trader("q", node)
    target = make_node("node-2")
    Run.objects.filter(pk=other.portfolio.pk).update(pinned_node=node.row)
    operations.migrate("p", "node-2", actor="ann")
    operations.migrate("q", None, actor="ann")
    assert (hand.run().pinned_node, other.run().pinned_node) == (target.row, None)
    operations.unpin("p", actor="ann")
    operations.unpin("p", actor="ann")
    assert hand.run().pinned_node is None
    ended = Event.objects.filter(kind="unpinned", actor="ann").order_by("id")
    assert [str(event.portfolio) for event in ended] == ["q", "p"]


def test_a_move_keeps_the_revision_that_runs(node: FakeNode) -> None:
    hand = make_trader("p", node)
    make_node("node-2")
    Portfolio.objects.filter(pk=hand.portfolio.pk).update(revision=1)
    assert operations.migrate("p", "node-2", actor="ann").to_revision == 1


def test_a_halted_or_quarantined_portfolio_must_be_started_before_it_is_moved(
    node: FakeNode,
) -> None:
    run = Run.objects.filter(pk=make_portfolio("p").pk)
    for phase in ("halted", "quarantined"):
        run.update(phase=phase)
        refusal = refused(lambda: operations.migrate("p", "node-1", actor="ann"))
        found = (refusal.code, refusal.message)
        assert found == ("already_stopped", f"p cannot be moved: it is {phase}. Start it first.")


def test_a_move_while_a_stop_is_under_way_is_refused_with_the_stop(node: FakeNode) -> None:
    make_trader("p", node)
    make_node("node-2")
    stop = operations.stop("p", actor="ann")
    refusal = refused(lambda: operations.migrate("p", "node-2", actor="bob"))
    assert (refusal.code, refusal.message) == (
        "handoff_in_progress",
        f"p is already in handoff {stop.pk} (stop, draining); wait until it has ended.",
    )
    assert outcomes(["p"], "node-2") == {"p": "handoff_in_progress"}


def test_a_move_from_a_lost_node_is_a_failover(node: FakeNode) -> None:
    make_trader("p", node)
    make_node("node-2")
    lose(node)
    assert operations.migrate("p", "node-2", actor="ann").kind == "failover"


def test_while_one_handoff_is_under_way_another_is_refused_with_its_id(node: FakeNode) -> None:
    make_trader("p", node)
    make_node("node-2")
    make_node("node-3")
    first = operations.migrate("p", "node-2", actor="ann")
    for act in (
        lambda: operations.migrate("p", "node-3", actor="bob"),
        lambda: operations.migrate("p", None, actor="bob"),
        lambda: operations.reload("p", actor="bob"),
    ):
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


def test_move_of_several_portfolios_moves_the_others_if_some_are_refused(node: FakeNode) -> None:
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
        told = (begun.target_node, begun.reason, begun.requested_by)
        assert told == (target.row, "rack 7", "ann")
        assert hand.run().pinned_node == target.row
    assert Event.objects.filter(kind="pinned", actor="ann", node=target.row).count() == 3


@pytest.mark.parametrize("target", ["node-2", None])
def test_moving_several_portfolios_costs_as_many_statements_as_moving_one(
    node: FakeNode, target: str | None
) -> None:
    for name in "abcd":
        make_trader(name, node)
    Run.objects.update(pinned_node=node.row)
    make_node("node-2")
    with counted_transactions() as of_one:
        assert outcomes(["a"], target) == {"a": "node-2"}
    with counted_transactions() as of_three:
        assert set(outcomes(["b", "c", "d"], target).values()) == {"node-2"}
    assert len(of_three) == len(of_one)


def test_of_several_portfolios_as_many_move_as_the_node_has_room_for(node: FakeNode) -> None:
    for name in ("a", "b", "c"):
        make_trader(name, node)
    make_node("node-2", capacity=2)
    assert outcomes(["c", "a", "b"], "node-2") == {"c": "node_full", "a": "node-2", "b": "node-2"}
    assert outcomes(["c"], None) == {"c": "no_room"}


def test_several_portfolios_moved_to_any_node_spread_and_lose_their_pins(node: FakeNode) -> None:
    hands = [make_trader(name, node) for name in ("a", "b")]
    Run.objects.update(pinned_node=node.row)
    make_node("node-2")
    make_node("node-3")
    assert outcomes(["a", "b"], None) == {"a": "node-2", "b": "node-3"}
    assert [hand.run().pinned_node for hand in hands] == [None, None]
    assert Event.objects.filter(kind="unpinned", actor="ann", node=node.row).count() == 2


def test_of_several_portfolios_one_stopped_meanwhile_stays_and_the_others_move(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        make_trader(name, node)
    make_node("node-2")
    follow(monkeypatch, moves, "observe", lambda: operations.stop("a", actor="bob"))
    assert outcomes(["a", "b"], "node-2") == {"a": "already_stopped", "b": "node-2"}
    assert Event.objects.filter(kind="pinned", actor="ann").count() == 1


def test_move_of_several_portfolios_is_refused_if_one_of_them_or_the_node_does_not_exist(
    node: FakeNode,
) -> None:
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
