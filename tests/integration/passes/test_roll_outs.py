"""Roll-outs from request to end, advanced by passes."""

from __future__ import annotations

from typing import Any

import pytest

from portfolios.models import Portfolio, Revision
from scheduling import operations
from scheduling.errors import Invalid, NotFound, Refused
from scheduling.models import Event, Handoff, RollOut, RollOutItem, Run
from scheduling.operations import NewRollOut
from scheduling.passes.sweep import sweep
from scheduling.retention import delete_rows
from scheduling.timing import timing
from tests.support.alerts import open_alerts
from tests.support.factories import (
    ago,
    make_node,
    make_portfolio,
    make_trader,
    newest_handoff,
    owner,
    prove_revision,
    run_of,
    serving_since,
    tick,
)
from tests.support.roll_outs import (
    HELD,
    begin,
    begun,
    make_artifact,
    make_fleet,
    make_holder,
    pinned,
    prove_all,
    reasons,
    reload_done,
    state,
    states,
    step,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def test_roll_out_changes_its_canary_and_then_one_portfolio_at_a_time() -> None:
    node, _, second = make_fleet("a", "b", "c")
    number = begin(second, "b", "a", "c")
    step()
    assert states(number) == {"b": "changing", "a": "waiting", "c": "waiting"}
    assert (pinned("b"), pinned("a")) == ("2.0", "1.0")
    reload_done("b", node)
    step()
    assert states(number)["b"] == "proving" and states(number)["a"] == "waiting"
    prove_all()
    step()
    assert states(number) == {"b": "done", "a": "changing", "c": "waiting"}
    reload_done("a", node)
    step()
    assert states(number) == {"b": "done", "a": "proving", "c": "changing"}
    reload_done("c", node)
    prove_all()
    step()
    assert states(number) == {"b": "done", "a": "done", "c": "done"}
    assert state(number) == "finished"
    assert [pinned(name) for name in "abc"] == ["2.0"] * 3
    assert all(item.pause_ms is not None for item in RollOutItem.objects.all())
    told = Event.objects.filter(data__roll_out=number)
    assert told.filter(kind="portfolio_changed", actor="ann").count() == 3
    assert {"roll_out_started", "roll_out_finished"} <= set(told.values_list("kind", flat=True))


def test_new_revision_keeps_the_configuration_and_names_who_began_the_roll_out() -> None:
    _, _, second = make_fleet("a")
    operations.revise_portfolio("a", {"limits": {"largest_order": "5"}}, actor="bob")
    Handoff.objects.update(state="superseded", finished_at=ago(1))
    number = begin(second, "a")
    step()
    found = Revision.objects.get(portfolio__name="a", number=3)
    before = Revision.objects.get(portfolio__name="a", number=2)
    assert (found.config, found.symbols, found.limits) == (
        before.config, before.symbols, before.limits,
    )  # fmt: skip
    assert (found.artifact_id, found.created_by) == (second.sha256, "ann")
    assert found.note == f"roll-out {number}"


def test_rejected_canary_stops_the_roll_out_and_the_way_back_closes_its_alert() -> None:
    node, number = begun("a", "b")
    step()
    node.fails(newest_handoff(owner("a", node).portfolio), strategy=True)
    step()
    assert state(number) == "stopped"
    assert states(number) == {"a": "rejected", "b": "skipped"}
    assert reasons(number) == {
        "a": "r2 was rejected: it broke",
        "b": "the roll-out ended before its turn, so it is left as it is",
    }
    assert RollOut.objects.get().reason == "stopped at a: r2 was rejected: it broke"
    assert (pinned("b"), run_of(owner("a", node).portfolio).revision) == ("1.0", 1)
    sentence = open_alerts()
    assert sentence == {
        "roll_out_stopped": f"roll-out {number} stopped at a: r2 was rejected: it broke; take it "
        "back, or give that portfolio another revision"
    }, "one alert for one cause"

    operations.return_roll_out(number, actor="ann", reason="bad")
    assert open_alerts() == {}, "nor is the rejected revision an alert of its own meanwhile"
    step()
    assert state(number) == "back"
    assert states(number) == {"a": "returned", "b": "skipped"}
    assert pinned("a") == "1.0"
    assert open_alerts() == {}


def test_alert_closes_when_an_operator_gives_another_revision() -> None:
    node, number = begun("a")
    step()
    node.fails(newest_handoff(owner("a", node).portfolio), strategy=True)
    step()
    assert list(open_alerts()) == ["roll_out_stopped"]
    operations.revise_portfolio("a", {"artifact": make_artifact("3.0").sha256}, actor="bob")
    assert open_alerts() == {}
    assert state(number) == "stopped"


def test_portfolio_that_an_operator_changed_before_its_turn_is_skipped() -> None:
    node, first, second = make_fleet("a", "b", "c")
    number = begin(second, "a", "b", "c", canary_seconds=0)
    operations.revise_portfolio("b", {"limits": {"largest_order": "5"}}, actor="bob")
    step()
    reload_done("a", node)
    step()
    assert states(number) == {"a": "proving", "b": "skipped", "c": "changing"}
    assert reasons(number)["b"] == "an operator changed it to r2 meanwhile, so it is left as it is"
    assert pinned("b") == first.version


def test_stopped_deleted_halted_and_unfit_portfolios_are_skipped_with_a_sentence() -> None:
    node, first, second = make_fleet("a", "b", "c", "d")
    make_portfolio("e", artifact=first.sha256, **HELD)
    make_holder("f", make_node("node-2", python="3.9"), first)
    second.pythons, second.python_requirement = ["3.13"], ">=3.13"
    second.save(update_fields=["pythons", "python_requirement"])
    number = begin(second, "a", "b", "c", "d", "e", "f", canary_seconds=0)
    operations.stop("b", actor="bob")
    operations.delete_portfolio("c", actor="bob")
    Run.objects.filter(portfolio__name="d").update(phase="quarantined")
    step()
    reload_done("a", node)
    step()
    assert states(number) == {
        "a": "proving", "b": "skipped", "c": "skipped", "d": "skipped", "e": "waiting",
        "f": "skipped",
    }  # fmt: skip
    assert reasons(number) == {
        "b": "is stopped, so it is left as it is; start it, then roll out again",
        "c": "was deleted",
        "d": "is quarantined, so it is left as it is; start it, then roll out again",
        "f": "node-2 has Python 3.9, but the portfolio needs Python >=3.13 for momentum-demo 2.0, "
        "so it is left as it is; migrate it first",
    }
    RollOutItem.objects.update(since=ago(200))
    step()
    assert reasons(number)["e"] == "had no owner for 120 s, so it is left as it is"


def test_a_roll_out_waits_for_a_migration_under_way() -> None:
    node, _, second = make_fleet("a", "b")
    other = make_node("node-2", python="3.13")
    number = begin(second, "a", "b", canary_seconds=0)
    step()
    reload_done("a", node)
    operations.migrate("b", "node-2", actor="bob")
    step()
    assert states(number)["b"] == "waiting"
    hand = owner("b", node)
    handoff = newest_handoff(hand.portfolio)
    other.ready(handoff)
    hand.release(handoff)
    assert owner("b", other).commit(1) == "ok"
    step()
    assert states(number)["b"] == "changing"
    assert newest_handoff(hand.portfolio).target_node == other.row, "a pin stays where it is"


def test_portfolio_without_a_good_revision_is_no_canary_and_waits_until_it_has_one() -> None:
    node, first, second = make_fleet("b", "c")
    make_holder("a", node, first)
    view = operations.roll_out(NewRollOut(second.sha256, canary_seconds=0), actor="ann")
    assert view.items[0].portfolio == "b", "though a would be first by its name"
    step()
    reload_done("b", node)
    step()
    assert states(view.id) == {"b": "proving", "a": "waiting", "c": "changing"}
    reload_done("c", node)
    prove_revision(Portfolio.objects.get(name="a"))
    step()
    assert states(view.id)["a"] == "changing"


def test_way_back_of_a_portfolio_stopped_by_a_halt_is_done_without_a_start() -> None:
    _, number = begun("a", "b")
    step()
    operations.halt_all(actor="bob", reason="wrong prices")
    step()
    assert states(number) == {"a": "left", "b": "skipped"}
    assert reasons(number)["a"] == "is stopped before r2 was proven; it runs once it is started"
    operations.return_roll_out(number, actor="ann")
    step()
    assert states(number)["a"] == "returned" and pinned("a") == "1.0"


def test_roll_out_stops_if_no_event_proves_its_canary_in_time() -> None:
    node, number = begun("a", "b")
    step()
    reload_done("a", node)
    step()
    RollOutItem.objects.filter(state="proving").update(since=ago(700))
    step()
    assert reasons(number)["a"] == "runs r2, which no event has proven within 660 s"
    step()
    assert state(number) == "stopped"
    assert list(open_alerts()) == ["roll_out_stopped"]
    prove_all()
    assert open_alerts() == {}, "it was proven after all"


def test_way_back_reloads_only_the_portfolios_that_the_roll_out_changed() -> None:
    node, number = begun("a", "b", "c", "d", canary_seconds=0)
    for name in ("a", "b", "c"):
        step()
        reload_done(name, node)
    operations.revise_portfolio("b", {"limits": {"largest_order": "5"}}, actor="bob")
    reload_done("b", node)
    step()
    assert states(number) == {"a": "proving", "b": "left", "c": "proving", "d": "changing"}
    operations.return_roll_out(number, actor="ann", reason="worse than 1.0")
    step()
    assert states(number) == {
        "a": "returning", "b": "not_returned", "c": "returning", "d": "returning",
    }  # fmt: skip
    assert [pinned(name) for name in "abcd"] == ["1.0", "2.0", "1.0", "1.0"]
    reload_done("a", node)
    reload_done("c", node)
    # Its reload to the new revision was under way: it ends first, then the sweep takes it back.
    reload_done("d", node)
    step()
    assert states(number)["d"] == "returning"
    serving_since(3600)
    sweep("test", timing())
    reload_done("d", node)
    step()
    assert state(number) == "back"
    assert states(number) == {
        "a": "returned", "b": "not_returned", "c": "returned", "d": "returned",
    }  # fmt: skip
    assert Event.objects.filter(kind="roll_out_going_back", reason="worse than 1.0").exists()


def test_way_back_from_a_rejected_revision_leads_to_the_one_that_ran() -> None:
    node, _, second = make_fleet("a")
    third = make_artifact("3.0")
    begin(second, "a")
    step()
    node.fails(newest_handoff(owner("a", node).portfolio), strategy=True)
    step()
    number = begin(third, "a")
    step()
    reload_done("a", node)
    operations.return_roll_out(number, actor="ann")
    step()
    assert (Portfolio.objects.get(name="a").revision, pinned("a")) == (1, "1.0")


def test_operator_stops_a_roll_out_after_the_portfolio_that_it_is_changing() -> None:
    _, number = begun("a", "b")
    step()
    view = operations.stop_roll_out(number, actor="bob", reason="lunch")
    assert (view.state, view.reason) == ("stopping", "stopped by bob: lunch")
    step()
    assert states(number) == {"a": "changing", "b": "skipped"}
    with pytest.raises(Refused, match=f"Roll-out {number} is stopping: it starts no further"):
        operations.stop_roll_out(number, actor="bob")
    assert open_alerts() == {}


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"portfolios": ["nobody"]}, NotFound, "There is no portfolio named nobody."),
    ({"portfolios": ["a"], "canary": "b"}, Refused, "The canary b is not among the 1"),
    ({"portfolios": ["a"], "strategy": "x"}, Invalid, "by name or a strategy, not both"),
    ({"strategy": "momentum"}, Refused, "No portfolio runs strategy momentum of another"),
    ({"at_a_time": 0}, Invalid, "at_a_time is 0; it must be 1 to 50"),
    ({"canary_seconds": -1.0}, Invalid, "canary_seconds is -1; it must be 0 to 86,400"),
    ({"artifact": "0" * 64}, Invalid, "There is no artifact 0000"),
]


def test_refused_roll_out_is_a_sentence_and_begins_nothing() -> None:
    _, _, second = make_fleet("a", "b")
    for given, error, sentence in REFUSED:
        with pytest.raises(error, match=sentence):
            operations.roll_out(NewRollOut(**{"artifact": second.sha256, **given}), actor="ann")
    assert not RollOut.objects.exists()


def test_parameters_that_do_not_fit_the_new_schema_are_refused_by_name() -> None:
    make_fleet("a", "b")
    operations.revise_portfolio("b", {"config": {"quantity": "3"}}, actor="ann")
    nothing = {"type": "object", "title": "Nothing", "properties": {}, "required": []}
    # Schemas are cached by the hash of the wheel.
    schema = {"$ref": "#/$defs/Nothing", "$defs": {"Nothing": nothing}}
    third = make_artifact("3.0.with.nothing", schema=schema)
    with pytest.raises(Invalid) as caught:
        begin(third, "a", "b")
    assert "b does not fit momentum-demo 3.0.with.nothing: config.quantity: " in str(caught.value)
    assert "a does not fit" not in str(caught.value)
    assert not RollOut.objects.exists()


def test_roll_out_chooses_all_portfolios_of_the_artifact_but_those_that_have_it() -> None:
    node, _, second = make_fleet("a", "b")
    make_holder("c", node, second)
    make_trader("d", node)
    view = operations.roll_out(NewRollOut(second.sha256), actor="ann")
    assert [item.portfolio for item in view.items] == ["a", "b"]
    operations.stop_roll_out(view.id, actor="ann")
    step()
    operations.revise_portfolio("a", {"artifact": second.sha256}, actor="ann")
    operations.revise_portfolio("b", {"artifact": second.sha256}, actor="ann")
    with pytest.raises(Refused, match=r"All 3 portfolios want momentum-demo 2\.0 already"):
        operations.roll_out(NewRollOut(second.sha256), actor="ann")


def test_every_tick_advances_roll_outs() -> None:
    node, number = begun("a", "b", canary_seconds=0)
    tick(full=False)
    assert states(number)["a"] == "changing"
    reload_done("a", node)
    tick(full=False)
    tick(full=False)
    assert states(number) == {"a": "proving", "b": "changing"}


def test_old_roll_outs_are_deleted_with_their_items() -> None:
    node, number = begun("a")
    step()
    reload_done("a", node)
    prove_all()
    step()
    open_one = begin(make_artifact("3.0"), "a")
    RollOut.objects.update(ended_at=ago(3600 * 24 * 2600))
    delete_rows(float("inf"))
    assert list(RollOut.objects.values_list("pk", flat=True)) == [open_one]
    assert not RollOutItem.objects.filter(roll_out=number).exists()
