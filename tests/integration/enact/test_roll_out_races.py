"""Roll-outs and concurrent changes on real connections: the later one sees the earlier one."""

from __future__ import annotations

import pytest

from portfolios.models import Artifact, Portfolio
from scheduling import operations
from scheduling.db.transaction import Transaction, execute
from scheduling.enact import roll_out as enact
from scheduling.errors import Refused
from scheduling.models import RollOut, RollOutItem
from scheduling.operations import NewRollOut
from scheduling.passes.roll_outs import advance
from scheduling.timing import timing
from tests.support.concurrency import Held, at_once, behind
from tests.support.roll_outs import (
    begin,
    begun,
    make_artifact,
    make_fleet,
    pinned,
    reload_done,
    state,
    states,
    step,
)

pytestmark = pytest.mark.django_db(transaction=True)

LIMITS = {"limits": {"largest_order": "5"}}


def item_of(name: str) -> int:
    return int(RollOutItem.objects.get(portfolio__name=name).pk)


def start_item(number: int, name: str) -> Transaction[str]:
    return enact.start_item(number, item_of(name), timing())


def creating(artifact: Artifact, *portfolios: tuple[int, int]) -> Held:
    """Return the creation, not committed yet, of a roll-out over these (portfolio, revision)."""
    return Held(
        enact.create(artifact.sha256, portfolios, at_a_time=1, canary_s=None, note="", actor="ann")
    )


def revision(name: str) -> int:
    return Portfolio.objects.get(name=name).revision


def test_change_that_waited_for_an_item_start_is_based_on_the_new_revision() -> None:
    _, number = begun("a")
    held = Held(start_item(number, "a"))
    assert held.outcome == "started"
    behind(held, lambda: operations.revise_portfolio("a", LIMITS, actor="bob"))
    assert (revision("a"), pinned("a")) == (3, "2.0")
    step()
    assert states(number) == {"a": "left"}


def test_item_start_that_waited_for_a_change_keeps_the_change() -> None:
    _, number = begun("a")
    outcomes = at_once(
        lambda: operations.revise_portfolio("a", LIMITS, actor="bob"),
        lambda: execute(start_item(number, "a")),
    )
    assert not any(isinstance(outcome, Exception) for outcome in outcomes), outcomes
    if outcomes[1] == "started":
        assert (revision("a"), pinned("a")) == (3, "2.0"), "the change knew of the artifact"
    else:
        assert outcomes[1] == "changed"
        assert (revision("a"), pinned("a")) == (2, "1.0")
    step()
    assert states(number)["a"] == ("left" if outcomes[1] == "started" else "skipped")


def test_two_passes_start_an_item_once() -> None:
    _, number = begun("a", "b")
    assert behind(Held(start_item(number, "a")), lambda: execute(start_item(number, "a"))) == "late"
    assert revision("a") == 2


def test_stop_that_waited_for_an_item_start_lets_that_item_finish() -> None:
    node, number = begun("a", "b")
    held = Held(start_item(number, "a"))
    assert behind(held, lambda: operations.stop_roll_out(number, actor="bob")).state == "stopping"
    step()
    assert states(number) == {"a": "changing", "b": "skipped"}
    reload_done("a", node)


def test_item_start_that_waited_for_a_stop_starts_nothing() -> None:
    _, number = begun("a")
    held = Held(enact.stop(number, actor="bob", reason=""))
    assert behind(held, lambda: execute(start_item(number, "a"))) == "late"
    assert revision("a") == 1


def test_item_states_decided_before_a_stop_of_the_roll_out_are_not_written_after_the_stop() -> None:
    _, number = begun("a", "b")
    operations.delete_portfolio("a", actor="bob")
    held = Held(enact.stop(number, actor="bob", reason="lunch"))
    assert behind(held, lambda: advance("test", timing())) == 0
    assert states(number) == {"a": "waiting", "b": "waiting"}
    assert RollOut.objects.get().reason == "stopped by bob: lunch"
    step()
    assert state(number) == "stopped"


def test_item_start_that_waited_for_the_way_back_starts_nothing() -> None:
    node, number = begun("a", "b", canary_seconds=0)
    step()
    reload_done("a", node)
    held = Held(enact.begin_way_back(number, actor="bob", reason=""))
    assert behind(held, lambda: execute(start_item(number, "b"))) == "late"
    assert pinned("b") == "1.0"
    step()
    assert pinned("a") == "1.0"


def test_way_back_that_waited_for_an_item_start_returns_that_item_too() -> None:
    _, number = begun("a")
    behind(Held(start_item(number, "a")), lambda: operations.return_roll_out(number, actor="bob"))
    step()
    assert (states(number), pinned("a")) == ({"a": "returning"}, "1.0")


def test_change_that_waited_for_the_way_back_is_kept() -> None:
    node, number = begun("a")
    step()
    reload_done("a", node)
    operations.return_roll_out(number, actor="bob")
    held = Held(enact.give_back(number, item_of("a"), timing()))
    assert held.outcome == "given"
    behind(held, lambda: operations.revise_portfolio("a", LIMITS, actor="eve"))
    assert (revision("a"), pinned("a")) == (3, "1.0")
    step()
    assert states(number) == {"a": "not_returned"}


def test_way_back_that_waited_for_a_change_keeps_the_change() -> None:
    node, number = begun("a")
    step()
    reload_done("a", node)
    operations.return_roll_out(number, actor="bob")
    item = item_of("a")
    outcomes = at_once(
        lambda: operations.revise_portfolio("a", LIMITS, actor="eve"),
        lambda: execute(enact.give_back(number, item, timing())),
    )
    assert not any(isinstance(outcome, Exception) for outcome in outcomes), outcomes
    assert revision("a") == 3, "the change by an operator stays, whoever was first"
    assert pinned("a") == ("1.0" if outcomes[1] == "given" else "2.0")


def test_second_roll_out_of_the_same_portfolios_is_refused_and_names_the_first() -> None:
    _, _, second = make_fleet("a", "b", "c")
    third = make_artifact("3.0")
    ids = dict(Portfolio.objects.values_list("name", "pk"))
    held = creating(second, (ids["b"], 1), (ids["a"], 1))
    asked = NewRollOut(third.sha256, portfolios=["a", "b", "c"])
    refused = behind(held, lambda: operations.roll_out(asked, actor="bob"))
    assert isinstance(refused, Refused)
    assert refused.message == (
        f"a is part of roll-out {held.outcome}, which has not ended; stop that one or wait for its "
        "end."
    )
    assert list(RollOut.objects.values_list("pk", flat=True)) == [held.outcome]


def test_two_roll_outs_begun_at_once_over_the_same_portfolios_do_not_deadlock() -> None:
    _, _, second = make_fleet("a", "b", "c")
    third = make_artifact("3.0")
    outcomes = at_once(lambda: begin(second, "a", "b", "c"), lambda: begin(third, "c", "b", "a"))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Refused", "int"], outcomes


def test_way_back_during_another_roll_out_of_its_portfolio_is_refused_and_names_it() -> None:
    node, number = begun("a")
    step()
    reload_done("a", node)
    operations.stop_roll_out(number, actor="bob")
    RollOutItem.objects.update(state="done")
    step()
    held = creating(make_artifact("3.0"), (Portfolio.objects.get(name="a").pk, 2))
    refused = behind(held, lambda: operations.return_roll_out(number, actor="bob"))
    assert isinstance(refused, Refused)
    assert f"a is part of roll-out {held.outcome}" in refused.message
    assert (state(number), pinned("a")) == ("stopped", "2.0")


def test_artifact_of_a_roll_out_that_began_meanwhile_is_not_deleted() -> None:
    make_fleet("a")
    third = make_artifact("3.0")
    held = creating(third, (Portfolio.objects.get(name="a").pk, 1))
    refused = behind(held, lambda: operations.delete_artifact(third.sha256, actor="bob"))
    assert isinstance(refused, Refused), refused
    assert refused.message == (
        f"{third} cannot be deleted: roll-out {held.outcome} names it, which is kept as a record."
    )
    step()
    assert pinned("a") == "3.0"


def test_steps_decided_before_an_operators_change_are_not_enacted() -> None:
    node, number = begun("a", "b", canary_seconds=0)
    operations.revise_portfolio("b", LIMITS, actor="bob")
    assert execute(start_item(number, "b")) == "changed"
    assert (revision("b"), pinned("b")) == (2, "1.0")
    step()
    reload_done("a", node)
    operations.return_roll_out(number, actor="bob")
    operations.revise_portfolio("a", LIMITS, actor="eve")
    assert execute(enact.give_back(number, item_of("a"), timing())) == "changed"
    assert (revision("a"), pinned("a")) == (3, "2.0")
