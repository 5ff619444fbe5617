"""Exits of processes, and proving of revisions."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from portfolios.models import Revision
from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.process_failures import MAX_DEATHS
from scheduling.enact.revisions import find_stale_revisions, mark_proven_revisions
from scheduling.enact.unheld_runs import find_unactivated, reclaim_unactivated
from scheduling.models import Event, Handoff, Lease, Run
from scheduling.presentation.audit_lines import audit_sentence
from scheduling.presentation.serializers.history import EventDocument
from scheduling.timing import timing
from tests.integration.enact.handoff.conftest import activating, revised
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    ago,
    lose,
    make_node,
    make_trader,
    newest_handoff,
    owner,
    prove_revision,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def load(hand: OwnerSession, handoff: Handoff) -> OwnerSession:
    """Carry out a reload, up to its first commit."""
    hand.daemon.ready(handoff)
    hand.release(handoff)
    assert hand.commit(0) == "ok"
    return hand


def second_revision(hand: OwnerSession) -> OwnerSession:
    """Let the portfolio run an unproven second revision."""
    return load(hand, revised(hand))


def status(hand: OwnerSession, number: int) -> str:
    return Revision.objects.get(portfolio=hand.portfolio, number=number).status


def exits_counted() -> int:
    lines = Event.objects.filter(kind="process_died")
    return sum(line.data.get("times", 1) for line in lines)


def wanted_reloads() -> list[int]:
    return [row.wanted for row in execute(find_stale_revisions(timing()))]


def test_exit_is_an_attempt_and_restarts_in_place(hand: OwnerSession) -> None:
    before = hand.run().epoch
    assert hand.die() == "restart"
    at = hand.run()
    assert (at.attempts, at.epoch, at.node_id) == (1, before, hand.daemon.row.pk)
    assert at.reason == f"attempt 1 of 5 ended after seq {at.last_seq}: ValueError: boom"


@pytest.mark.parametrize("between", [{}, {"idle": True}])
def test_repeated_exit_report_counts_once_after_other_reports(
    hand: OwnerSession, between: dict[str, Any]
) -> None:
    first, second = hand.death(), hand.death(**between)
    assert hand.report_death(first) == "restart"
    assert hand.report_death(second) == "restart"
    counted = hand.run().attempts
    for _ in range(4):
        assert hand.report_death(first) == "late"
        assert hand.report_death(second) == "late"
    assert (hand.run().attempts, hand.run().phase) == (counted, "running")
    assert Event.objects.filter(kind="process_died").count() == 2


def test_endless_idle_exits_write_a_bounded_number_of_audit_lines(hand: OwnerSession) -> None:
    assert [hand.die(idle=True) for _ in range(12)] == ["restart"] * 10 + ["too_many"] * 2
    again = hand.death(idle=True)
    assert [hand.report_death(again) for _ in range(2)] == ["too_many", "late"]
    lines = Event.objects.filter(kind="process_died").order_by("id")
    assert [line.data.get("times", 1) for line in lines] == [1] * 9 + [4]
    assert audit_sentence(lines[9]).endswith(", and 3 further exits in ten minutes")
    assert hand.run().attempts == 0
    assert hand.die() == "restart"  # one that failed at an event counts


def test_repeated_reports_of_exits_beyond_the_limit_count_once(hand: OwnerSession) -> None:
    deaths = [hand.death(idle=True) for _ in range(10 + MAX_DEATHS + 2)]
    for death in deaths:
        hand.report_death(death)
    before = exits_counted()
    # Of those counted in the last line, the oldest two are no longer known, the others are.
    for death in [*deaths[-2:] * 2, *deaths[12:], *deaths[:10]]:
        assert hand.report_death(death) == "late"
    assert exits_counted() == before == len(deaths)
    newest = Event.objects.filter(kind="process_died").latest("id")
    assert newest.data["deaths"] == [death.death for death in reversed(deaths[12:])]


def test_ids_of_exits_that_an_audit_line_counts_are_neither_in_the_api_nor_in_its_sentence(
    hand: OwnerSession,
) -> None:
    for _ in range(11):
        hand.die(idle=True)
    newest = Event.objects.filter(kind="process_died").latest("id")
    assert len(newest.data["deaths"]) == 1
    shown = EventDocument(context={"operator": True}).to_representation(newest)["data"]
    assert (shown["times"], shown["death"]) == (2, newest.data["death"])
    assert "deaths" not in shown
    del newest.data["stage"]  # without it, the data is shown in place of the sentence
    assert newest.data["deaths"][0] not in audit_sentence(newest)


def test_an_idle_exit_beyond_the_limit_still_rejects_an_unproven_revision(
    hand: OwnerSession,
) -> None:
    for _ in range(10):
        hand.die(idle=True)
    second_revision(hand)
    assert hand.die(idle=True) == "fell_back"
    assert (hand.run().revision, status(hand, 2)) == (1, "rejected")
    assert Event.objects.filter(kind="process_died").count() == 11


@pytest.mark.parametrize("wrong", ["epoch", "incarnation", "portfolio"])
def test_exit_report_of_another_owner_changes_nothing(hand: OwnerSession, wrong: str) -> None:
    speaker = {"incarnation": OwnerSession(FakeNode(hand.daemon.row, uuid4()), hand.portfolio)}
    given = {"epoch": {"epoch": 99}, "portfolio": {"portfolio": 987_654_321}}
    assert speaker.get(wrong, hand).die(**given.get(wrong, {})) == "late"
    assert hand.run().attempts == 0


def test_fifth_exit_quarantines_the_portfolio_and_other_portfolios_continue(
    hand: OwnerSession,
) -> None:
    neighbour = make_trader("q", hand.daemon)
    assert [hand.die() for _ in range(5)] == ["restart"] * 4 + ["quarantined"]
    at = hand.run()
    assert (at.phase, at.node_id, at.attempts) == ("quarantined", None, 5)
    assert at.reason == (
        f"5 attempts ended after seq {at.last_seq}: ValueError: boom; "
        "start it again once it is fixed"
    )
    assert Event.objects.filter(kind="quarantined", portfolio=hand.portfolio).count() == 1
    assert neighbour.commit(1) == "ok"


def test_target_exit_before_its_first_commit_rolls_back(hand: OwnerSession) -> None:
    target = make_node("node-2")
    activating(hand, target)
    assert owner("p", target).die(stage="killed") == "rolled_back"
    assert hand.run().node_id == hand.daemon.row.pk
    assert status(hand, 1) == "good"


@pytest.mark.parametrize("deaths", [0, 4])
def test_exit_during_a_stop_ends_the_stop(hand: OwnerSession, deaths: int) -> None:
    for _ in range(deaths):
        hand.die()
    operations.stop("p", actor="ann", reason="enough")
    assert hand.die() == "stopped"
    at = hand.run()
    assert (at.phase, at.node_id, at.reason) == ("stopped", None, "enough")
    assert newest_handoff(hand.portfolio).state == "done"


def test_revision_is_good_after_a_minute_with_progress(node: FakeNode) -> None:
    idle = make_trader("idle", node, events=0)
    young, proven = make_trader("young", node), make_trader("proven", node)
    begun = Run.objects.filter(pk__in=(idle.portfolio.pk, proven.portfolio.pk))
    begun.update(first_commit_at=ago(61))
    assert execute(mark_proven_revisions(timing())) == 1
    assert [status(h, 1) for h in (idle, young, proven)] == ["unproven", "unproven", "good"]
    assert proven.run().good_revision == 1
    assert execute(mark_proven_revisions(timing())) == 0


def test_time_without_commits_does_not_prove_a_revision(node: FakeNode) -> None:
    silent = make_trader("silent", node, events=1)
    Run.objects.update(first_commit_at=ago(600), last_commit_at=ago(599))
    assert execute(mark_proven_revisions(timing())) == 0
    assert status(silent, 1) == "unproven"


def test_exit_of_an_unproven_revision_falls_back_at_once(hand: OwnerSession) -> None:
    second_revision(hand)
    before = hand.run()
    assert hand.die() == "fell_back"
    at = hand.run()
    assert (at.revision, at.epoch, at.node_id) == (1, before.epoch + 1, before.node_id)
    assert status(hand, 2) == "rejected"
    assert hand.commit(1) == "ok"
    assert newest_handoff(hand.portfolio).state == "done"
    assert wanted_reloads() == []


def test_going_back_to_an_earlier_good_revision_makes_it_the_one_to_fall_back_to(
    hand: OwnerSession,
) -> None:
    second_revision(hand).commit(1)
    prove_revision(hand.portfolio)
    assert hand.run().good_revision == 2
    load(hand, operations.reload("p", actor="ann", revision=1)).commit(1)
    prove_revision(hand.portfolio)
    assert hand.run().good_revision == 1


def test_second_of_two_quick_revisions_is_reloaded_after_the_first(hand: OwnerSession) -> None:
    first = revised(hand)
    _, second = operations.revise_portfolio("p", {"limits": {"largest_order": "6"}}, actor="ann")
    assert second is None
    load(hand, first)
    assert (hand.run().revision, wanted_reloads()) == (2, [3])


def test_failed_reload_is_not_repeated_at_once(hand: OwnerSession) -> None:
    handoff = revised(hand)
    hand.daemon.fails(handoff)
    assert wanted_reloads() == []
    Handoff.objects.filter(pk=handoff.pk).update(finished_at=ago(11))
    assert wanted_reloads() == [2]


def test_after_a_failover_the_wanted_revision_waits_for_a_healthy_minute(
    hand: OwnerSession,
) -> None:
    revised(hand)
    target = make_node("node-2")
    lose(hand.daemon)
    hand.daemon.fails(newest_handoff(hand.portfolio))
    handoff = operations.migrate("p", "node-2", actor="ann")
    assert (handoff.kind, handoff.to_revision) == ("failover", 1)
    target.ready(handoff)
    owner("p", target).commit(1)
    Handoff.objects.filter(kind="reload").update(finished_at=ago(3600))
    assert wanted_reloads() == []
    Run.objects.filter(pk=hand.portfolio.pk).update(first_commit_at=ago(61))
    assert wanted_reloads() == [2]


def test_stale_halt_ends_the_ownership_until_a_start(hand: OwnerSession) -> None:
    at = hand.run()
    said = {"epoch": at.epoch, "seq": at.last_seq}
    assert [hand.halts(**said) for _ in range(2)] == ["halted", "late"]
    at = hand.run()
    assert (at.phase, at.node_id) == ("halted", None)
    assert at.reason == (
        f"stopped before seq {at.last_seq + 1}: the next events are 41 s old, limit 5 s, "
        "and catch_up is halt; start resumes there"
    )
    operations.start("p", actor="ann")
    hand.daemon.prepare()
    assert hand.commit(0) == "ok"


def test_a_halt_by_a_limit_states_the_limit_until_a_start(hand: OwnerSession) -> None:
    why = "the equity is 150.0000 or 15 % below its peak of 1000.0000, limit 10 %"
    assert hand.halts(age_s=0, reason=why) == "halted"
    at = hand.run()
    assert (at.phase, at.node_id) == ("halted", None)
    assert at.reason == f"stopped after seq {at.last_seq}: {why}; start resumes there"
    operations.start("p", actor="ann")
    # The node takes the halt of the state as lifted.
    assert (hand.run().resume_seq or 0) >= at.last_seq
    hand.daemon.prepare()
    assert hand.commit(0) == "ok"


def test_stale_halt_during_a_stop_ends_the_stop(hand: OwnerSession) -> None:
    operations.stop("p", actor="ann")
    assert hand.halts(seq=0) == "stopped"
    assert hand.run().phase == "stopped"


def test_run_without_a_first_commit_is_reclaimed(hand: OwnerSession) -> None:
    again = make_node("node-1")
    assert execute(find_unactivated(timing())) == []
    Run.objects.filter(pk=hand.portfolio.pk).update(granted_at=ago(11))
    Lease.objects.filter(node=again.row).update(taken_at=ago(11))
    (row,) = execute(find_unactivated(timing()))
    assert execute(reclaim_unactivated(row.portfolio_id, row.epoch, 10.0)) is True
    assert execute(reclaim_unactivated(row.portfolio_id, row.epoch, 10.0)) is False
    at = hand.run()
    assert (at.node_id, at.phase) == (None, "pending")
    assert at.reason == "could not start in time: node-1 did not commit in 10 s"
    assert (at.attempts, at.failures_by_node) == (1, {})  # the daemon's own end before


def test_run_that_commits_in_time_is_not_reclaimed(hand: OwnerSession) -> None:
    again = owner("p", make_node("node-1"))
    seen = again.run().epoch
    again.commit(0)
    assert execute(reclaim_unactivated(hand.portfolio.pk, seen, 10.0)) is False
