"""The halt (kill switch) and its undo."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError

from portfolios.models import Portfolio
from scheduling import operations
from scheduling.management.commands import halt_all as command
from scheduling.models import Event, Node, Run, Tenure
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.observe.halts import read_halt
from scheduling.operations import halt_all, undo_halt
from tests.support.api_client import ApiClient, problem
from tests.support.commands import said, told
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    expire_lease,
    make_node,
    make_portfolio,
    make_trader,
    owner,
    prove_revision,
)
from tests.support.refusals import refused

Pair = tuple[FakeNode, FakeNode]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


@pytest.fixture
def pair() -> Pair:
    return make_node("node-1"), make_node("node-2")


@pytest.fixture
def one(pair: Pair) -> OwnerSession:
    return make_trader("one", pair[0])


def phases() -> dict[str, str]:
    return dict(Run.objects.values_list("portfolio__name", "phase"))


def wanted() -> dict[str, str]:
    return dict(Portfolio.objects.values_list("name", "desired_state"))


def test_halt_ends_every_ownership(pair: Pair, one: OwnerSession) -> None:
    make_trader("two", pair[1])
    make_portfolio("waiting")
    before = dict(Run.objects.values_list("portfolio__name", "epoch"))
    halted = halt_all(actor="olive", reason="wrong prices")
    assert halted.running == 2
    assert [line.portfolio for line in halted.results] == ["one", "two", "waiting"]
    assert phases() == dict.fromkeys(before, "stopped")
    assert wanted() == dict.fromkeys(before, "stopped")
    assert not Run.objects.filter(node__isnull=False).exists()
    assert dict(Run.objects.values_list("portfolio__name", "epoch")) == {
        name: epoch + 1 for name, epoch in before.items()
    }
    assert not Tenure.objects.filter(ended_at__isnull=True).exists()
    assert [daemon.owns() for daemon in pair] == [[], []]


def test_halt_result_has_the_phase_before_the_halt_and_the_epoch_after_it(pair: Pair) -> None:
    hand = make_trader("one", pair[0], events=3)
    operations.migrate("one", "node-2", actor="cast")
    at = hand.run()
    (line,) = halt_all(actor="olive").results
    assert (line.phase, line.node, line.handoff) == ("running", "node-1", "migrate")
    assert (line.epoch_before, line.epoch) == (at.epoch, at.epoch + 1)
    assert line.last_seq == at.last_seq


def test_halt_ends_handoffs_and_their_targets_never_own(pair: Pair, one: OwnerSession) -> None:
    moving = operations.migrate("one", "node-2", actor="cast")
    halt_all(actor="olive", reason="wrong prices")
    assert pair[1].ready(moving) == "late"
    moving.refresh_from_db()
    assert (moving.state, moving.error) == ("superseded", "wrong prices")
    assert pair[1].owns() == []


def test_halt_between_release_and_first_commit_fences_both_nodes(
    pair: Pair, one: OwnerSession
) -> None:
    moving = operations.migrate("one", "node-2", actor="cast")
    pair[1].ready(moving)
    assert one.release(moving).answer == "handed_over"
    first = owner("one", pair[1]).next_commit(0)
    halt_all(actor="olive")
    assert pair[1].send(first)[0].answer == "fenced"
    assert [daemon.desired(role) for daemon in pair for role in ("run", "warm")] == [[]] * 4


def test_halt_waits_neither_for_nodes_nor_for_a_freeze(one: OwnerSession) -> None:
    expire_lease(one.daemon, 300)
    operations.freeze(actor="olive", failover=True)
    assert halt_all(actor="olive").running == 1
    assert phases() == {"one": "stopped"}


def test_halt_with_another_expected_number_is_refused(one: OwnerSession) -> None:
    make_portfolio("waiting")
    refusal = refused(lambda: halt_all(actor="olive", expect_running=2))
    assert refusal.code == "count_differs"
    assert refusal.message.startswith("1 portfolio is running, not 2; nothing was stopped")
    assert (refusal.extra["running"], refusal.extra["expect_running"]) == (1, 2)
    assert phases()["one"] == "running"
    assert halt_all(actor="olive", expect_running=1).running == 1


def test_quarantined_portfolio_keeps_its_reason_in_a_halt(one: OwnerSession) -> None:
    prove_revision(one.portfolio)
    while one.die(failed_seq=one.run().last_seq + 1) != "quarantined":
        pass
    reason = one.run().reason
    make_trader("two", one.daemon)
    halted = halt_all(actor="olive")
    assert [line.portfolio for line in halted.results] == ["two"]
    assert (one.run().reason, "attempts ended" in reason) == (reason, True)
    undo_halt(actor="olive")
    assert phases()["one"] == "quarantined"


def test_halt_writes_one_event_per_portfolio_and_one_for_itself(
    pair: Pair, one: OwnerSession
) -> None:
    make_trader("two", pair[1])
    halted = halt_all(actor="olive", reason="wrong prices")
    (act,) = Event.objects.filter(kind="halted_all")
    assert (act.actor, act.reason) == ("olive", "wrong prices")
    assert (act.data["halt"], act.data["running"], act.data["stopped"]) == (halted.halt, 2, 2)
    each = Event.objects.filter(kind="ended", data__cause="halt")
    assert sorted(str(event.portfolio) for event in each) == ["one", "two"]
    assert {event.actor for event in each} == {"olive"}
    assert {event.data["halt"] for event in each} == {halted.halt}


def test_halted_run_names_its_halt_and_how_to_start_it(one: OwnerSession) -> None:
    halted = halt_all(actor="olive", reason="wrong prices")
    run = Run.objects.get()
    assert run.halt_id == halted.halt
    assert run.reason == (
        f"stopped with all others by olive: wrong prices; start it, or undo halt "
        f"{halted.halt} to start all that it stopped"
    )


def test_halt_hints_every_node(one: OwnerSession) -> None:
    operations.migrate("one", "node-2", actor="cast")
    before = dict(Node.objects.values_list("name", "desired_version"))
    halt_all(actor="olive")
    after = dict(Node.objects.values_list("name", "desired_version"))
    assert all(after[name] > before[name] for name in ("node-1", "node-2"))


def test_stored_halt_equals_the_answer_of_the_operation(pair: Pair, one: OwnerSession) -> None:
    make_trader("two", pair[1])
    halted = halt_all(actor="olive", reason="wrong prices")
    assert halted.halt is not None
    line, again = read_halt(halted.halt)
    assert again == halted
    assert (line.waiting, line.stopped) == (2, 2)


def test_undo_starts_exactly_the_portfolios_of_the_halt(pair: Pair) -> None:
    for name in ("one", "two", "three", "four"):
        make_trader(name, pair[0])
    operations.stop("four", actor="cast")  # its drain is under way: it is not to come back
    halted = halt_all(actor="olive")
    operations.start("one", actor="cast")
    operations.delete_portfolio("two", actor="cast")
    assert undo_halt(actor="olive", reason="prices are right") == (halted.halt, ["three"])
    assert wanted() == {"one": "running", "two": "stopped", "three": "running", "four": "stopped"}
    assert phases()["three"] == "pending"
    assert read_fleet_view().halts == []
    (started,) = Event.objects.filter(kind="portfolio_started", reason="prices are right")
    assert started.data == {"halt": halted.halt}


def test_a_halt_remains_in_force_when_later_halts_are_undone(one: OwnerSession) -> None:
    first = halt_all(actor="olive")
    make_portfolio("two")
    for _ in range(20):
        halt_all(actor="olive")
        undo_halt(actor="olive")
    (found,) = read_fleet_view().halts
    assert (found.halt, found.waiting) == (first.halt, 1)


def test_a_second_undo_is_refused_and_a_second_halt_stops_nothing_twice(one: OwnerSession) -> None:
    first = halt_all(actor="olive")
    second = halt_all(actor="olive")
    assert (second.halt, second.running, second.results) == (None, 0, [])
    assert undo_halt(actor="olive") == (first.halt, ["one"])
    assert "nothing to undo" in refused(lambda: undo_halt(actor="olive")).message


def test_a_repeated_undo_leaves_the_name_of_who_undid_the_halt(one: OwnerSession) -> None:
    number = halt_all(actor="olive").halt
    assert number is not None
    assert undo_halt(number, actor="otto") == (number, ["one"])
    undone = read_halt(number)[0]
    assert undo_halt(number, actor="olive") == (number, [])
    again = read_halt(number)[0]
    assert (again.undone_by, again.undone_at) == ("otto", undone.undone_at)


def test_api_halts_and_undoes(one: OwnerSession, operator: ApiClient, viewer: ApiClient) -> None:
    assert problem(viewer.post("halt/", {}), 403, "forbidden")
    found = problem(operator.post("halt/", {"expect_running": 7}), 409, "count_differs")
    assert (found["running"], found["expect_running"]) == (1, 7)
    done = operator.post("halt/", {"reason": "wrong prices", "expect_running": 1})
    assert done.status_code == 200
    document = done.json()
    assert (document["running"], document["reason"]) == (1, "wrong prices")
    assert document["actor"] == "olive"
    assert document["results"][0]["portfolio"] == "one"
    assert viewer.get(f"halt/{document['halt']}/").json() == document
    (line,) = viewer.get("halt/").json()["results"]
    assert (line["halt"], line["waiting"]) == (document["halt"], 1)
    problem(viewer.post("halt/undo/", {}), 403, "forbidden")
    rolled_back = operator.post("halt/undo/", {"halt": document["halt"]})
    assert (rolled_back.status_code, rolled_back.json()["started"]) == (202, ["one"])
    problem(operator.post("halt/undo/", {"halt": 99_999}), 404, "not_found")


def type_at_terminal(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = StringIO(answer)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(command.sys, "stdin", terminal)


def test_command_halts_and_undoes(one: OwnerSession) -> None:
    document = told("halt_all", "--reason", "wrong prices", "--expect", "1")
    assert (document["running"], document["results"][0]["portfolio"]) == (1, "one")
    assert "1 portfolio starts again" in said("halt_all", "--undo", str(document["halt"]))
    assert "there was nothing to stop" not in said("halt_all")
    with pytest.raises(CommandError, match="0 portfolios are running, not 3"):
        said("halt_all", "--expect", "3")


def test_halt_command_asks_for_confirmation_on_a_terminal_unless_given_yes(
    one: OwnerSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_at_terminal("yes\n", monkeypatch)
    with pytest.raises(CommandError, match="Nothing was stopped"):
        said("halt_all")
    assert phases() == {"one": "running"}
    type_at_terminal("halt 1\n", monkeypatch)
    assert "1 portfolio was stopped, 1 of them" in said("halt_all")
    assert phases() == {"one": "stopped"}
    make_trader("two", one.daemon)
    type_at_terminal("", monkeypatch)
    said("halt_all", "--yes")
    assert phases()["two"] == "stopped"
