"""A daemon registers, reports, and says goodbye."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from scheduling import operations
from scheduling.models import Lease, Node, NodeReport
from scheduling.wire.messages import (
    AcknowledgedCommits,
    Goodbye,
    Heartbeat,
    Prepared,
    ProcessStatus,
    encode,
)
from tests.support.factories import FakeNode, ago, make_node, make_trader, newest_handoff
from tests.support.gateway_requests import (
    admitted_node,
    ask,
    beat,
    commit_request,
    post,
    post_all,
    register_message,
    serve,
)
from tests.support.patches import raising

pytestmark = pytest.mark.django_db(transaction=True)


def test_registration_is_answered_with_the_desired_set(node: FakeNode) -> None:
    make_trader("p", node)
    status, answer = post("register/", register_message())
    assert status == 200
    assert [(e["name"], e["role"]) for e in answer["desired"]["entries"]] == [("p", "run")]
    assert (answer["name"], answer["lease_ttl_s"]) == ("node-1", 30.0)


def test_third_takeover_of_a_node_within_a_minute_is_refused_and_names_host_and_pid(
    node: FakeNode,
) -> None:
    make_node("node-1")
    make_node("node-1")
    status, problem = post("register/", register_message())
    assert (status, problem["code"]) == (409, "name_in_use")
    assert "rack-1, pid 4100" in problem["message"]


def test_heartbeat_answer_has_the_desired_set_only_if_newer(node: FakeNode) -> None:
    _, answer = post("heartbeat/", beat(node))
    _, again = post("heartbeat/", beat(node, have_version=answer["desired"]["version"]))
    assert again.get("desired") is None
    assert (again["status"], again["next_beat_s"]) == ("ok", 5.0)  # it has nothing: twice as often


def test_commit_answer_has_the_version_of_the_desired_set(node: FakeNode) -> None:
    trader = make_trader("p", node)
    _, answer = post("heartbeat/", beat(node))
    assert answer["next_beat_s"] == 10.0
    _, committed = post("commit/", commit_request(node, trader.next_commit(1)))
    assert committed["results"][0]["version"] == answer["desired"]["version"]


def test_pending_handoff_shortens_the_heartbeat_interval_to_a_second(node: FakeNode) -> None:
    make_trader("p", node)
    make_node("node-2")
    operations.migrate("p", "node-2", actor="ann")
    assert post("heartbeat/", beat(node))[1]["next_beat_s"] == 1.0


def test_superseded_daemon_learns_the_host_of_its_successor(node: FakeNode) -> None:
    make_node("node-1")
    _, answer = post("heartbeat/", beat(node))
    assert answer["status"] == "superseded"
    assert answer["message"] == "Node node-1 was taken over by a daemon on rack-1, pid 4100."


def test_daemon_unknown_since_a_restore_is_told_to_register_again(node: FakeNode) -> None:
    """The holder is from before a restore, or from before commits that a promotion lost."""
    status, registered = post("register/", register_message())
    assert status == 200
    Lease.objects.update(incarnation=node.incarnation, taken_at=ago(3600))
    when = registered["now_us"]
    forgotten = Heartbeat(incarnation=str(uuid4()), have_version=0, registered_us=when)
    _, answer = post("heartbeat/", forgotten)
    told = "The database knows only an earlier daemon of node node-1; register again."
    assert (answer["status"], answer["message"]) == ("unknown", told)
    make_node("node-1")
    assert post("heartbeat/", forgotten)[1]["status"] == "superseded"


def test_clock_set_back_between_registrations_does_not_revive_the_older_daemon(
    node: FakeNode,
) -> None:
    _, older = post("register/", register_message(incarnation=str(node.incarnation)))
    make_node("node-1")
    Lease.objects.update(taken_at=ago(3600))
    words = beat(node, registered_us=older["now_us"], registration=older["registration"])
    assert post("heartbeat/", words)[1]["status"] == "superseded"


def test_registration_count_from_before_a_restore_does_not_supersede(node: FakeNode) -> None:
    """The backup has an earlier daemon; later registrations are newer by the clock."""
    _, later = post("register/", register_message())
    given = {"registered_us": later["now_us"], "registration": later["registration"]}
    words = Heartbeat(incarnation=str(uuid4()), have_version=0, **given)
    Node.objects.update(registrations=later["registration"] - 1)
    Lease.objects.update(incarnation=node.incarnation, taken_at=ago(3600))
    assert post("heartbeat/", words)[1]["status"] == "unknown"
    Lease.objects.update(taken_at=ago(-1))
    assert post("heartbeat/", words)[1]["status"] == "superseded"


def test_after_a_goodbye_a_heartbeat_is_unknown_and_registration_accepted(node: FakeNode) -> None:
    post("goodbye/", Goodbye(incarnation=str(node.incarnation), reason="asked to stop"))
    assert Node.objects.get().status == "left"
    assert post("heartbeat/", beat(node))[1]["status"] == "unknown"
    assert post("register/", register_message(incarnation=str(node.incarnation)))[0] == 200
    assert post("heartbeat/", beat(node))[1]["status"] == "ok"


def test_repeated_reports_of_a_heartbeat_are_applied_once(node: FakeNode) -> None:
    hand = make_trader("p", node)
    target = admitted_node("node-2")
    handoff = operations.migrate("p", "node-2", actor="ann")
    words = beat(target, reports=[Prepared(handoff=handoff.pk), Prepared(handoff=10**18)])
    for _ in range(2):
        assert post("heartbeat/", words, token="token of node-2")[1]["status"] == "ok"
    assert newest_handoff(hand.portfolio).state == "draining"


def test_invalid_report_costs_neither_the_heartbeat_nor_other_reports(
    node: FakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    hand = make_trader("p", node)
    odd: list[dict[str, Any]] = [{"death": "no uuid"}, {"portfolio": 2**63}]
    odd += [{"epoch": 2**64 - 1}, {"error": "a\0b"}]
    words = beat(node, reports=[*(hand.death(**given) for given in odd), hand.death()])
    status, answer = post("heartbeat/", words)
    assert (status, answer.get("status")) == (200, "ok")
    assert hand.run().attempts == 2
    lines = [line for line in caplog.records if line.levelname in ("WARNING", "ERROR")]
    (told,) = [line for line in lines if "report" in line.getMessage()]
    assert told.getMessage() == (
        "node-1: invalid reports: 1, the first: "
        "field death of a ProcessExited report is 'no uuid'; it must be a UUID."
    )
    assert told.exc_info is None


def test_claims_beyond_the_limit_of_a_node_are_logged(
    node: FakeNode, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduling.enact.timeline.MAX_PER_EPOCH", 1)
    at = make_trader("p", node).run()
    its: dict[str, Any] = {"portfolio": at.portfolio_id, "epoch": at.epoch}
    lost = [AcknowledgedCommits(**its, seq=at.last_seq + n) for n in (1, 2, 3)]
    assert post("heartbeat/", beat(node, acknowledged=lost))[0] == 200
    told = [line.getMessage() for line in caplog.records if "commits" in line.getMessage()]
    assert told == [
        "node-1: the database lacks acknowledged commits of 1 portfolios",
        "node-1: 2 more claims of vanished commits were not stored: the node reached the limit of "
        "such claims",
    ]


def test_internal_error_in_a_report_costs_neither_the_heartbeat_nor_other_reports(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = make_trader("p", node)
    broken = raising(AssertionError("what cannot be"))
    monkeypatch.setattr("scheduling.enact.node_reports.handoff.handle_prepared", broken)
    words = beat(node, reports=[Prepared(handoff=1), hand.death()])
    status, answer = post("heartbeat/", words)
    assert (status, answer.get("status")) == (200, "ok")
    assert hand.run().attempts == 1


def test_invalid_metric_name_is_rejected_and_nothing_stored(node: FakeNode) -> None:
    names = ("x" * 65, "x" * 900_000, "a\0", "a\n", "\u202e", "")
    bodies = [encode(beat(node, metrics={name: 1.0})) for name in names]
    for status, problem in post_all("heartbeat/", *bodies):
        assert (status, problem["code"]) == (400, "invalid")
        assert problem["message"].startswith("The name of a metric is ")
        assert len(problem["message"]) < 300
    assert not NodeReport.objects.exists()
    assert post("heartbeat/", beat(node, metrics={"x" * 64: 1.0}))[0] == 200


def test_invalid_numbers_of_one_node_cost_no_other_heartbeat(node: FakeNode) -> None:
    other = admitted_node("node-2")
    number = float("nan")
    its: dict[str, Any] = {"portfolio": 1, "epoch": 1, "revision": 1, "seq": 0, "lag": 0}
    owned = ProcessStatus(**its, phase="running", cpu_pct=number)
    odd = beat(node, metrics={"a": 1.0, "b": number}, portfolios=[owned])

    async def both() -> Any:
        beats = ask("heartbeat/", encode(beat(other)), "token of node-2")
        return await asyncio.gather(ask("heartbeat/", encode(odd)), beats)

    assert [answer[1]["status"] for answer in serve(both)] == ["ok", "ok"]
    kept = NodeReport.objects.get(node=node.row)
    assert kept.metrics == {"a": 1.0}
    assert kept.portfolios == [msgspec.to_builtins(owned) | {"cpu_pct": None}]


def test_report_without_effect_is_not_answered_with_the_desired_set(node: FakeNode) -> None:
    _, answer = post("heartbeat/", beat(node))
    words = beat(node, have_version=answer["desired"]["version"], reports=[Prepared(handoff=999)])
    assert post("heartbeat/", words)[1].get("desired") is None
