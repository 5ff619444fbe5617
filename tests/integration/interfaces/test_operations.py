"""Operations of people: refusals with code and sentence, which change nothing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.utils import translation

from portfolios.models import Portfolio, Revision
from scheduling import operations
from scheduling.errors import Invalid
from scheduling.models import Control, Event, Node, Run
from scheduling.observe.localized_reason import localized_text
from scheduling.operations import NewPortfolio
from tests.support.factories import (
    FakeNode,
    expire_handoff,
    expire_lease,
    make_portfolio,
    make_trader,
    newest_handoff,
)
from tests.support.refusals import refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def fields(act: Callable[[], Any]) -> list[str]:
    """Return the names of the fields that `act` was refused for."""
    refusal = refused(act)
    assert isinstance(refusal, Invalid)
    return sorted({e["field"].split(".")[0] for e in refusal.extra["errors"]})


def new(**given: Any) -> NewPortfolio:
    return NewPortfolio(**{"name": "p", "strategy": "canary", **given})


# --- create --------------------------------------------------------------------------------------


INVALID_FIELDS = (
    ({"name": ""}, "name"),
    ({"name": "no slug!"}, "name"),
    ({"name": "n" * 81}, "name"),
    ({"symbols": ["NOSUCH"]}, "symbols"),
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
    ({"starting_cash": Decimal("NaN")}, "starting_cash"),
    ({"starting_cash": Decimal("0.00001")}, "starting_cash"),  # stored, it would be 0
    ({"desired_state": "asleep"}, "desired_state"),
    ({"desired_state": [1]}, "desired_state"),
)


def test_invalid_field_of_a_new_portfolio_is_named() -> None:
    for given, field in INVALID_FIELDS:
        create = partial(operations.create_portfolio, new(**given), actor="ann")
        assert fields(create) == [field], given


def test_refusal_of_an_invalid_starting_cash_quotes_the_given_amount() -> None:
    bad = new(starting_cash=Decimal(-5))
    refusal = refused(lambda: operations.create_portfolio(bad, actor="ann"))
    assert "starting_cash is -5; give an amount over 0, 1,000,0" in refusal.message


def test_a_trader_without_symbols_is_told_what_to_give() -> None:
    bad = new(strategy="buy_and_hold")
    refusal = refused(lambda: operations.create_portfolio(bad, actor="ann"))
    assert refusal.message == (
        "symbols: buy_and_hold trades the symbols it is given and was given none: list them, such "
        'as ["IBM", "XOM"], or give ["*"] for every symbol of the feed.'
    )


def test_all_symbols_can_be_given_as_a_star_and_a_canary_needs_none() -> None:
    every = new(name="every", strategy="buy_and_hold", symbols=["*"])
    operations.create_portfolio(every, actor="ann")
    operations.create_portfolio(new(name="canary"), actor="ann")
    assert [r.symbols for r in Revision.objects.order_by("portfolio__name")] == [[], ["*"]]


def test_new_portfolio_with_a_name_that_is_taken_is_refused() -> None:
    make_portfolio("p")
    refusal = refused(lambda: make_portfolio("p"))
    found = (refusal.code, refusal.message)
    assert found == ("name_taken", "A portfolio named p already exists; choose another name.")


# --- names of nothing ----------------------------------------------------------------------------


ON_MISSING = (
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
)


def test_operation_on_a_missing_object_is_not_found() -> None:
    for act in ON_MISSING:
        refusal = refused(act)
        assert (refusal.code, refusal.status) == ("not_found", 404)
        assert refusal.message.startswith("There is no ")


# --- revise --------------------------------------------------------------------------------------


INVALID_CHANGES = (
    ({"name": "q"}, "name"),
    ({"starting_cash": "1"}, "starting_cash"),
    ({"nonsense": 1}, "nonsense"),
    ({"weight": -1}, "weight"),
    ({"strategy": "nonsense"}, "strategy"),
    ({"limits": {"largest_order": "many"}}, "limits"),
)


def test_an_invalid_change_names_its_field(node: FakeNode) -> None:
    make_trader("p", node)
    for changes, field in INVALID_CHANGES:
        revise = partial(operations.revise_portfolio, "p", changes, actor="ann")
        assert fields(revise) == [field], changes


def test_an_edit_without_a_change_makes_no_revision(node: FakeNode) -> None:
    hand = make_trader("p", node)
    nothing: dict[str, Any] = {"config": {}, "symbols": []}
    portfolio, handoff = operations.revise_portfolio("p", nothing, actor="ann")
    assert (portfolio.revision, handoff) == (1, None)
    assert hand.run().phase == "running"


def test_change_of_catch_up_makes_no_revision_but_reaches_the_node(node: FakeNode) -> None:
    make_trader("p", node)
    before = Node.objects.get().desired_version
    portfolio, handoff = operations.revise_portfolio("p", {"catch_up": "full"}, actor="ann")
    assert (portfolio.revision, handoff) == (1, None)
    assert Node.objects.get().desired_version > before
    assert node.desired("run")[0].catch_up == "full"


def test_a_change_of_a_stopped_portfolio_makes_a_revision_only() -> None:
    make_portfolio("p", desired_state="stopped")
    change = {"limits": {"largest_order": "5"}}
    portfolio, handoff = operations.revise_portfolio("p", change, actor="ann")
    assert (portfolio.revision, handoff) == (2, None)


# --- reload --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("running", "p cannot be reloaded: it is pending. It starts once a node can run it."),
        ("stopped", "p cannot be reloaded: no node runs it (stopped). Start it instead."),
    ],
)
def test_a_reload_without_an_owner_is_refused(wanted: str, sentence: str) -> None:
    make_portfolio("p", desired_state=wanted)
    refusal = refused(lambda: operations.reload("p", actor="ann"))
    assert (refusal.code, refusal.message) == ("already_stopped", sentence)


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
def test_drain_and_cordon_are_idempotent_and_recorded_once(
    node: FakeNode, act: Callable[..., Node], undo: Callable[..., Node], flag: str
) -> None:
    for _ in range(2):
        assert getattr(act("node-1", actor="ann", reason="repair"), flag) is True
    for _ in range(2):
        assert getattr(undo("node-1", actor="ann"), flag) is False
    assert Event.objects.filter(node=node.row, actor="ann").count() == 2


def test_a_freeze_notifies_nodes_and_is_lifted_once(node: FakeNode) -> None:
    before = Node.objects.get().desired_version
    operations.freeze(actor="ann", reason="repair", failover=True)
    control = Control.objects.get()
    found = (control.frozen_by, control.frozen_reason, control.freeze_failover)
    assert found == ("ann", "repair", True)
    assert Node.objects.get().desired_version > before
    operations.unfreeze(actor="ann")
    operations.unfreeze(actor="ann")
    assert Control.objects.get().frozen_at is None
    assert Event.objects.filter(kind="unfrozen").count() == 1
