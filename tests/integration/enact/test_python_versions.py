"""A portfolio moves to a node with another Python version only with the consent of an operator."""

from __future__ import annotations

import pytest
from django.core.management import call_command

from portfolios.models import Portfolio
from portfolios.runtime.python_version import PYTHON_VERSION
from scheduling import operations
from scheduling.decide.types import Policy
from scheduling.errors import Invalid, NotFound
from scheduling.models import Event, Gateway, Node, Run, Tenure
from scheduling.passes.balance import balance
from scheduling.timing import timing
from scheduling.verification.verify import verify_portfolio
from tests.support.api_client import ApiClient
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    ago,
    lose,
    make_node,
    make_portfolio,
    make_running_portfolio,
    newest_handoff,
    serving_since,
)
from tests.support.refusals import refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def old_node() -> FakeNode:
    serving_since(3600)
    return make_node("node-1", python="3.11")


def make_owner(node: FakeNode, events: int = 5) -> OwnerSession:
    return OwnerSession(node, make_running_portfolio("p", node, events=events))


def run_pass() -> None:
    Node.objects.update(status_since=ago(3600))
    Gateway.objects.update(pulsed_at=ago(0))
    balance("s", timing(), Policy())


def test_a_portfolio_fails_over_only_to_a_node_with_its_python_version(old_node: FakeNode) -> None:
    hand = make_owner(old_node)
    make_node("node-2", python="3.13")
    lose(old_node)
    run_pass()
    assert hand.run().reason == (
        "last ran under Python 3.11: 0 of 1 node has it, found Python 3.13; "
        "start a node with it, or allow another version with accept_python"
    )
    assert newest_handoff(hand.portfolio).kind != "failover"
    third = make_node("node-3", python="3.11")
    run_pass()
    failover = newest_handoff(hand.portfolio)
    assert (failover.kind, failover.target_node_id) == ("failover", third.row.pk)


def test_migrate_to_another_python_version_needs_acceptance(old_node: FakeNode) -> None:
    hand = make_owner(old_node)
    new = make_node("node-2", python="3.13")
    refusal = refused(lambda: operations.migrate("p", "node-2", actor="ann"))
    assert refusal.code == "node_lacks"
    assert refusal.message == (
        "p cannot move to node-2: node-2 has Python 3.13, but the portfolio last ran under Python "
        "3.11: allow another version with accept_python."
    )
    assert operations.accept_python("3.13", None, actor="ann") == ["p"]
    handoff = operations.migrate("p", "node-2", actor="ann")
    new.ready(handoff)
    assert hand.release(handoff).answer == "handed_over"
    assert new.commit("p", 5) == "ok"
    assert hand.run().python == "3.13"
    assert [tenure.python for tenure in Tenure.objects.order_by("epoch")] == ["3.11", "3.13"]
    # There is no way back without another consent.
    refused(lambda: operations.migrate("p", "node-1", actor="ann"))


def test_new_portfolio_may_start_under_any_python_version(old_node: FakeNode) -> None:
    new = make_node("node-2", python="3.13")
    operations.cordon("node-1", actor="ann")
    portfolio = make_portfolio("p")
    run_pass()
    assert newest_handoff(portfolio).target_node_id == new.row.pk
    assert new.ready(newest_handoff(portfolio)) == "activating"
    assert Run.objects.get().python == "3.13"
    # It never committed there, so nothing binds it to that version.
    for _ in range(2):
        new.fails(newest_handoff(portfolio), "activate")
    assert (Run.objects.get().phase, Run.objects.get().python) == ("pending", "")


def test_restarted_daemon_with_another_version_loses_its_runs(old_node: FakeNode) -> None:
    hand = make_owner(old_node)
    spare = make_node("node-2", python="3.11")
    again = make_node("node-1", python="3.13")
    at = hand.run()
    assert (at.phase, at.node_id, at.python) == ("pending", None, "3.11")
    told = "node-1 started again with Python 3.13, and the portfolio last ran under Python 3.11"
    assert (at.reason, at.attempts) == (told, 0)
    run_pass()
    placed = newest_handoff(hand.portfolio)
    assert (placed.kind, placed.target_node_id) == ("place", spare.row.pk)
    assert again.owns() == []


def test_restarted_daemon_with_an_accepted_version_keeps_its_runs(old_node: FakeNode) -> None:
    hand = make_owner(old_node)
    operations.accept_python("3.13", ["p"], actor="ann")
    again = make_node("node-1", python="3.13")
    at = hand.run()
    assert (at.node_id, at.incarnation, at.python) == (again.row.pk, again.incarnation, "3.13")
    assert Tenure.objects.order_by("-epoch")[0].python == "3.13"


def test_daemon_without_a_reported_version_keeps_its_runs(old_node: FakeNode) -> None:
    hand = make_owner(old_node)
    silent = make_node("node-2")
    lose(old_node)
    run_pass()
    failover = newest_handoff(hand.portfolio)
    assert (failover.kind, failover.target_node_id) == ("failover", silent.row.pk)
    silent.ready(failover)
    assert hand.run().python == "3.11"


def test_accepted_version_is_audited_and_can_be_withdrawn(old_node: FakeNode) -> None:
    make_owner(old_node)
    assert operations.accept_python("3.13", ["p"], actor="ann", reason="rack 2") == ["p"]
    assert operations.accept_python("3.13", ["p"], actor="ann") == []  # it is there already
    assert operations.accept_python("", None, actor="bob") == ["p"]
    lines = Event.objects.filter(kind="python_accepted").order_by("id")
    assert [(e.actor, e.reason, e.data["version"]) for e in lines] == [
        ("ann", "rack 2", "3.13"), ("bob", "", ""),
    ]  # fmt: skip
    with pytest.raises(NotFound):
        operations.accept_python("3.13", ["q"], actor="ann")
    with pytest.raises(Invalid):
        operations.accept_python("3.13.1", ["p"], actor="ann")


def test_a_difference_from_a_run_under_another_python_is_reported_as_not_verifiable(
    old_node: FakeNode,
) -> None:
    hand = make_owner(old_node, events=20)
    Tenure.objects.update(python="3.99")
    verdict = verify_portfolio("p")
    assert verdict.identical
    note = (
        "Some of the history ran under Python 3.99; all was replayed under Python"
        f" {PYTHON_VERSION}."
    )
    assert note in verdict.notes
    hand.daemon.commit("p", 20, lose=hand.run().last_seq + 3)
    refusal = refused(lambda: verify_portfolio("p"))
    assert refusal.code == "cannot_verify"
    assert f"ran under Python 3.99, and this is Python {PYTHON_VERSION}" in refusal.message
    Tenure.objects.update(python=PYTHON_VERSION)
    assert not verify_portfolio("p").identical
    assert Portfolio.objects.get().revision == 1


def test_an_operator_accepts_a_version_by_api_and_by_command(
    old_node: FakeNode, operator: ApiClient, capsys: pytest.CaptureFixture[str]
) -> None:
    make_owner(old_node)
    answer = operator.post("portfolios/p/accept-python/", {"version": "3.13", "reason": "rack 2"})
    assert answer.status_code == 200
    run = answer.json()["run"]
    assert (run["python"], run["accept_python"]) == ("3.11", "3.13")
    assert operator.get("nodes/node-1/").json()["python"] == "3.11"
    assert operator.get("portfolios/p/tenures/").json()["results"][0]["python"] == "3.11"
    wrong = operator.post("portfolios/p/accept-python/", {"version": "snake"})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid")
    call_command("accept_python", "3.13", "--all", "--undo")
    assert Run.objects.get().accept_python == ""
    call_command("accept_python", "3.13", "p")
    assert "1 portfolio may also run under Python 3.13." in capsys.readouterr().out
    call_command("cluster_status")
    assert "3.11" in capsys.readouterr().out
