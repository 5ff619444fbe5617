"""Each transition of a handoff, each deadline, and the loss of each participant."""

from __future__ import annotations

from itertools import pairwise

import pytest

from portfolios.models import Artifact, Portfolio, Revision
from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.handoff import expire, overdue, request
from scheduling.errors import Refused
from scheduling.models import Event, Handoff, Node, Tenure
from scheduling.timing import timing
from tests.support.artifacts import store_artifact
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    expire_handoff,
    expire_lease,
    lose,
    make_node,
    make_trader,
    newest_handoff,
    owner,
    prove_revision,
    run_of,
    serving_since,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


@pytest.fixture
def source() -> FakeNode:
    return make_node("node-1")


@pytest.fixture
def target() -> FakeNode:
    return make_node("node-2")


@pytest.fixture
def hand(source: FakeNode) -> OwnerSession:
    """Return the hand of node-1 on a running portfolio with a good revision."""
    hand = make_trader("p", source)
    prove_revision(hand.portfolio)
    return hand


def migrated(hand: OwnerSession, target: FakeNode) -> Handoff:
    return operations.migrate(hand.portfolio.name, target.name, actor="ann")


def draining(hand: OwnerSession, target: FakeNode) -> Handoff:
    handoff = migrated(hand, target)
    assert target.ready(handoff) == "draining"
    return handoff


def activating(hand: OwnerSession, target: FakeNode) -> Handoff:
    handoff = draining(hand, target)
    assert hand.release(handoff).answer == "handed_over"
    return handoff


def failing_over(hand: OwnerSession, target: FakeNode) -> Handoff:
    """Begin a failover as a pass does."""
    at = hand.run()
    row = execute(
        request(
            "failover",
            hand.portfolio.pk,
            target=target.row.pk,
            to_revision=1,
            actor="balancer",
            reason="node-1 is lost",
            timing=timing(),
            seen_epoch=at.epoch,
        )
    )
    return Handoff.objects.get(pk=row.id)


def state(handoff: Handoff) -> str:
    return Handoff.objects.get(pk=handoff.pk).state


def error(handoff: Handoff) -> str:
    return Handoff.objects.get(pk=handoff.pk).error


def revised(hand: OwnerSession) -> Handoff:
    """Return the reload to revision 2 that a change of the limits begins."""
    _, handoff = operations.revise_portfolio(
        hand.portfolio.name, {"limits": {"largest_order": "5"}}, actor="ann"
    )
    assert handoff is not None
    return handoff


# --- the straight way --------------------------------------------------------------------------


def test_a_migrate_goes_prepare_drain_grant_activate_and_is_done(
    hand: OwnerSession, source: FakeNode, target: FakeNode
) -> None:
    before = hand.run()
    handoff = migrated(hand, target)
    assert state(handoff) == "preparing"
    assert (source.owns(), target.owns()) == (["p"], [])
    assert target.ready(handoff) == "draining"
    assert hand.run().phase == "draining"
    assert [e.handoff for e in source.desired("drain")] == [handoff.pk]
    assert hand.release(handoff, events=3).answer == "handed_over"
    assert [e.handoff for e in source.desired("warm")] == [handoff.pk]
    assert target.owns() == ["p"]
    assert owner("p", target).commit(0) == "ok"
    done, at = newest_handoff(hand.portfolio), hand.run()
    assert done.state == "done"
    assert (at.epoch, at.node_id, at.phase) == (before.epoch + 1, target.row.pk, "running")
    assert (done.from_epoch, done.to_epoch) == (before.epoch, before.epoch + 1)
    assert done.released_seq == before.last_seq + 3
    assert done.pause_ms is not None
    assert source.desired("warm") == []
    stamps = [done.requested_at, done.prepared_at, done.released_at, done.granted_at]
    stamps += [done.activated_at, done.finished_at]
    assert stamps == sorted(at for at in stamps if at is not None)


def test_every_step_report_may_come_twice(hand: OwnerSession, target: FakeNode) -> None:
    handoff = migrated(hand, target)
    assert target.ready(handoff) == "draining"
    assert target.ready(handoff) == "late"
    hand.release(handoff)
    assert target.ready(handoff) == "late"
    assert target.fails(handoff) == "late"
    assert state(handoff) == "activating"


def test_step_report_of_another_node_changes_nothing(
    hand: OwnerSession, source: FakeNode, target: FakeNode
) -> None:
    handoff = migrated(hand, target)
    assert source.ready(handoff) == "late"
    assert source.fails(handoff) == "late"
    assert state(handoff) == "preparing"


def test_repeated_release_gets_its_first_answer(hand: OwnerSession, target: FakeNode) -> None:
    handoff = draining(hand, target)
    words = hand.release_words(handoff, events=2)
    assert hand.daemon.release(words).answer == "handed_over"
    assert hand.daemon.release(words).answer == "handed_over"
    owner("p", target).commit(4)
    assert hand.daemon.release(words).answer == "handed_over"
    assert hand.run().epoch == words.epoch + 1


@pytest.mark.parametrize("events", [0, 3])
def test_a_release_after_its_handoff_failed_is_kept_and_the_source_goes_on(
    hand: OwnerSession, target: FakeNode, events: int
) -> None:
    handoff = draining(hand, target)
    words = hand.release_words(handoff, events)
    target.fails(handoff)
    assert hand.daemon.release(words).answer == "keep"
    assert hand.daemon.release(words).answer == "keep"
    at = hand.run()
    assert (at.epoch, at.node_id, at.phase) == (words.epoch, hand.daemon.row.pk, "running")
    assert at.last_seq == words.to_seq
    assert hand.commit(1) == "ok"


@pytest.mark.parametrize("events", [0, 3])
def test_release_of_another_handoff_is_answered_keep(
    hand: OwnerSession, target: FakeNode, events: int
) -> None:
    old = draining(hand, target)
    target.fails(old)
    other = make_trader("q", hand.daemon)
    foreign = migrated(other, target)
    words = hand.words(events, release=foreign.pk)
    assert hand.daemon.release(words).answer == "keep"
    assert hand.daemon.release(words).answer == "keep"
    assert state(foreign) == "preparing"


def test_a_release_to_a_target_whose_lease_ran_out_is_kept(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = draining(hand, target)
    expire_lease(target)
    assert hand.release(handoff).answer == "keep"
    assert (state(handoff), hand.run().phase) == ("failed", "running")


def test_a_stale_release_is_refused_and_grants_nothing(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = draining(hand, target)
    words = hand.release_words(handoff, from_seq=0, to_seq=1)
    assert hand.daemon.release(words).answer == "conflict"
    assert state(handoff) == "draining"


def test_a_portfolio_that_is_asked_to_drain_before_its_first_commit_stays_draining(
    hand: OwnerSession, target: FakeNode
) -> None:
    activating(hand, target)
    third = make_node("node-3")
    owner("p", target).commit(0)
    again = operations.migrate("p", third.name, actor="ann")
    expire_handoff(again)
    make_node("node-2")  # takes its run over: it is starting again
    newest = owner("p", make_node("node-2"))
    stop = operations.stop("p", actor="ann")
    assert newest.commit(0) == "ok"
    assert (newest.run().phase, state(stop)) == ("draining", "draining")


# --- prepare -----------------------------------------------------------------------------------


def test_failed_prepare_does_not_affect_the_source(hand: OwnerSession, target: FakeNode) -> None:
    before = hand.run()
    handoff = migrated(hand, target)
    assert target.fails(handoff) == "failed"
    after = hand.run()
    assert (after.epoch, after.phase, after.attempts) == (before.epoch, "running", 0)
    assert error(handoff) == "it broke"


def test_late_prepare_fails_the_handoff(hand: OwnerSession, target: FakeNode) -> None:
    handoff = migrated(hand, target)
    assert expire_handoff(handoff) == "failed"
    assert error(handoff) == "node-2 could not prepare in 30 s"
    assert target.desired("prepare") == []


def test_target_gets_time_to_build_an_environment_except_for_a_failover(
    hand: OwnerSession, source: FakeNode, target: FakeNode
) -> None:
    artifact = store_artifact()
    Artifact.objects.update(lock="x", env_sha256="e" * 64)
    Revision.objects.update(artifact=artifact)
    handoff = migrated(hand, target)
    assert (handoff.deadline_at - handoff.requested_at).total_seconds() == pytest.approx(
        360, abs=0.1
    )
    assert expire_handoff(handoff) == "failed"
    assert error(handoff) == "node-2 could not prepare in 360 s"
    lose(source)
    failover = failing_over(hand, target)
    waits_s = (failover.deadline_at - failover.requested_at).total_seconds()
    assert waits_s == pytest.approx(30, abs=0.1)


def test_a_target_lost_while_preparing_ends_it_at_once(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = migrated(hand, target)
    lose(target)
    assert handoff.pk in execute(overdue(timing()))
    looked_at(handoff)
    assert error(handoff) == "node-2 was lost before it was ready"


def looked_at(handoff: Handoff) -> None:
    """Look at a handoff as the sweep does, without moving its deadline."""
    execute(expire(handoff.pk, timing()))


def test_step_within_its_deadline_is_not_expired(hand: OwnerSession, target: FakeNode) -> None:
    handoff = migrated(hand, target)
    assert execute(overdue(timing())) == []
    looked_at(handoff)
    assert state(handoff) == "preparing"


@pytest.mark.parametrize(
    ("serving", "last_beat"), [(3.0, 0.0), (300.0, 3.1)], ids=["just back", "not back yet"]
)
def test_no_deadline_is_judged_while_the_gateway_is_unreachable(
    hand: OwnerSession, target: FakeNode, serving: float, last_beat: float
) -> None:
    handoff = migrated(hand, target)
    Handoff.objects.filter(pk=handoff.pk).update(deadline_at="2000-01-01T00:00:00Z")
    serving_since(serving, pulsed_ago=last_beat)
    assert execute(overdue(timing())) == []
    serving_since(60.0)
    assert execute(overdue(timing())) == [handoff.pk]


# --- drain -------------------------------------------------------------------------------------


def test_late_release_raises_the_epoch_without_the_source(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = draining(hand, target)
    late = hand.release_words(handoff, events=1)
    assert expire_handoff(handoff) == "activating"
    assert hand.daemon.release(late).answer == "fenced"
    assert owner("p", target).commit(0) == "ok"
    row = Handoff.objects.get(pk=handoff.pk)
    assert (row.state, row.released_at) == ("done", None)
    assert row.error == "node-1 did not release in 5 s: the epoch was raised without it"


def test_a_target_lost_while_the_source_drains_leaves_it_to_the_source(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = draining(hand, target)
    lose(target)
    assert execute(overdue(timing())) == [handoff.pk]
    looked_at(handoff)
    assert (state(handoff), hand.run().phase) == ("failed", "running")
    assert hand.daemon.owns() == ["p"]


def test_a_source_lost_while_it_drains_is_not_waited_for(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = draining(hand, target)
    lose(hand.daemon)
    assert execute(overdue(timing())) == [handoff.pk]
    looked_at(handoff)
    assert state(handoff) == "activating"
    assert error(handoff) == "node-1 is gone: the epoch was raised without it"
    assert owner("p", target).commit(0) == "ok"


# --- activate and roll back --------------------------------------------------------------------


def test_late_first_commit_grants_back_to_the_source(
    hand: OwnerSession, source: FakeNode, target: FakeNode
) -> None:
    before = hand.run().epoch
    handoff = activating(hand, target)
    zombie = owner("p", target).words(0)
    assert expire_handoff(handoff) == "rolled_back"
    at = hand.run()
    assert (at.epoch, at.node_id, at.phase) == (before + 2, source.row.pk, "starting")
    assert target.send(zombie)[0].answer == "fenced"
    assert hand.commit(2) == "ok"
    assert Handoff.objects.get(pk=handoff.pk).pause_ms is not None


def test_failed_activation_grants_back_at_once(
    hand: OwnerSession, source: FakeNode, target: FakeNode
) -> None:
    handoff = activating(hand, target)
    assert target.fails(handoff, "activate") == "rolled_back"
    assert hand.run().node_id == source.row.pk
    assert target.fails(handoff, "activate") == "late"


def test_a_target_that_committed_is_not_rolled_back_by_a_late_deadline(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = activating(hand, target)
    owner("p", target).commit(0)
    assert expire_handoff(handoff) == "early"
    assert hand.run().node_id == target.row.pk


@pytest.mark.parametrize("gone", ["lost", "another incarnation"])
def test_rollback_skips_a_source_that_is_gone(
    hand: OwnerSession, source: FakeNode, target: FakeNode, gone: str
) -> None:
    handoff = activating(hand, target)
    {"lost": lambda: lose(source), "another incarnation": lambda: make_node("node-1")}[gone]()
    assert expire_handoff(handoff) == "rolled_back"
    at = hand.run()
    assert (at.node_id, at.phase, at.attempts) == (None, "pending", 0)
    assert at.reason.endswith("node-2 did not commit in 10 s")


def test_a_target_lost_before_its_first_commit_is_not_waited_for(
    hand: OwnerSession, source: FakeNode, target: FakeNode
) -> None:
    handoff = activating(hand, target)
    lose(target)
    assert execute(overdue(timing())) == [handoff.pk]
    looked_at(handoff)
    assert (state(handoff), hand.run().node_id) == ("rolled_back", source.row.pk)


def test_handoff_of_an_old_epoch_is_superseded(hand: OwnerSession, target: FakeNode) -> None:
    handoff = activating(hand, target)
    Handoff.objects.filter(pk=handoff.pk).update(to_epoch=1)
    expire_handoff(handoff)
    assert state(handoff) == "superseded"


# --- place -------------------------------------------------------------------------------------


def test_failed_placement_is_an_attempt_and_two_exclude_the_node(target: FakeNode) -> None:
    portfolio = placed(target)
    target.fails(newest_handoff(portfolio))
    operations.migrate("new", target.name, actor="ann")
    target.fails(newest_handoff(portfolio))
    at = run_of(portfolio)
    assert (at.attempts, at.failures_by_node) == (2, {str(target.row.pk): 2})
    assert at.reason == "could not start on the node chosen (2 of 5): it broke"


def test_late_placement_is_not_an_attempt(target: FakeNode) -> None:
    portfolio = placed(target)
    assert expire_handoff(newest_handoff(portfolio)) == "failed"
    at = run_of(portfolio)
    assert (at.attempts, at.failures_by_node) == (0, {})
    assert at.reason == f"could not start in time: {target.name} could not prepare in 30 s"


def test_placement_on_a_lost_node_is_not_an_attempt(target: FakeNode) -> None:
    portfolio = placed(target)
    lose(target)
    looked_at(newest_handoff(portfolio))
    assert run_of(portfolio).attempts == 0


def test_five_failed_placements_quarantine(target: FakeNode) -> None:
    portfolio = placed(target)
    target.fails(newest_handoff(portfolio))
    for _ in range(4):
        operations.migrate("new", target.name, actor="ann")
        target.fails(newest_handoff(portfolio))
    at = run_of(portfolio)
    assert (at.phase, at.node_id, at.attempts) == ("quarantined", None, 5)
    assert "it broke" in at.reason


def placed(target: FakeNode) -> Portfolio:
    """Return a portfolio that nobody ran yet, on its way to `target`."""
    portfolio = operations.create_portfolio(
        operations.NewPortfolio(name="new", strategy="canary"), actor="ann"
    )
    operations.migrate("new", target.name, actor="ann")
    return portfolio


# --- reload ------------------------------------------------------------------------------------


def test_a_revision_that_raises_while_it_is_prepared_is_rejected_and_the_old_one_runs_on(
    hand: OwnerSession, source: FakeNode
) -> None:
    handoff = revised(hand)
    source.fails(handoff, strategy=True)
    at = hand.run()
    assert (at.revision, at.phase, at.first_commit_at is None) == (1, "running", False)
    second = Revision.objects.get(portfolio=hand.portfolio, number=2)
    assert (second.status, second.status_reason) == ("rejected", "it broke")


def test_reload_that_fails_twice_rejects_its_revision(hand: OwnerSession, source: FakeNode) -> None:
    source.fails(revised(hand))
    assert Revision.objects.get(portfolio=hand.portfolio, number=2).status == "unproven"
    expire_handoff(operations.reload("p", actor="system"))
    assert Revision.objects.get(portfolio=hand.portfolio, number=2).status == "rejected"
    assert hand.run().phase == "running"


def test_a_revision_is_rejected_only_after_it_missed_its_first_commit_twice(
    hand: OwnerSession, source: FakeNode
) -> None:
    handoff = revised(hand)
    for status in ("unproven", "rejected"):
        source.ready(handoff)
        hand.release(handoff)
        assert hand.run().revision == 2
        assert expire_handoff(handoff) == "rolled_back"
        assert hand.run().revision == 1
        assert Revision.objects.get(portfolio=hand.portfolio, number=2).status == status
        assert hand.commit(1) == "ok"
        if status == "unproven":
            handoff = operations.reload("p", actor="system")


def test_a_revision_that_fails_by_itself_before_its_first_commit_is_rejected_at_once(
    hand: OwnerSession, source: FakeNode
) -> None:
    handoff = revised(hand)
    source.ready(handoff)
    hand.release(handoff)
    source.fails(handoff, "activate")
    assert Revision.objects.get(portfolio=hand.portfolio, number=2).status == "rejected"
    assert hand.run().revision == 1


def test_a_good_revision_is_never_rejected(hand: OwnerSession, source: FakeNode) -> None:
    second = revised(hand)
    source.ready(second)
    hand.release(second)
    hand.commit(1)
    prove_revision(hand.portfolio)
    source.fails(operations.reload("p", actor="ann", revision=1), strategy=True)
    assert Revision.objects.get(portfolio=hand.portfolio, number=1).status == "good"


# --- failover ----------------------------------------------------------------------------------


def test_a_failover_grants_as_soon_as_the_target_is_ready(
    hand: OwnerSession, target: FakeNode
) -> None:
    lose(hand.daemon)
    before = hand.run()
    handoff = failing_over(hand, target)
    assert target.ready(handoff) == "activating"
    at = hand.run()
    assert (at.epoch, at.node_id) == (before.epoch + 1, target.row.pk)
    assert owner("p", target).commit(1) == "ok"
    assert hand.send(hand.words(1, epoch=before.epoch)).answer == "fenced"


def test_failover_fails_if_the_owner_returns_before_the_grant(
    hand: OwnerSession, target: FakeNode
) -> None:
    lose(hand.daemon)
    handoff = failing_over(hand, target)
    hand.daemon.beat()
    assert target.ready(handoff) == "failed"
    assert error(handoff) == "node-1 sends heartbeats again and keeps it"
    assert hand.commit(1) == "ok"


def test_a_failover_counts_as_an_attempt_until_the_next_progress(
    hand: OwnerSession, target: FakeNode
) -> None:
    lose(hand.daemon)
    target.ready(failing_over(hand, target))
    assert hand.run().attempts == 1
    mine = owner("p", target)
    mine.commit(0)
    assert hand.run().attempts == 1
    mine.commit(1)
    assert hand.run().attempts == 0


def test_fifth_lost_owner_quarantines_instead_of_failover(
    hand: OwnerSession, target: FakeNode
) -> None:
    for _ in range(4):
        hand.die()
    lose(hand.daemon)
    assert target.ready(failing_over(hand, target)) == "quarantined"
    at = hand.run()
    assert (at.phase, at.node_id) == ("quarantined", None)
    assert "node-1, which ran it, was lost" in at.reason


def test_a_failover_whose_target_cannot_start_it_costs_an_attempt(
    hand: OwnerSession, target: FakeNode
) -> None:
    lose(hand.daemon)
    handoff = failing_over(hand, target)
    assert target.fails(handoff) == "failed"
    at = hand.run()
    assert (at.attempts, at.failures_by_node) == (1, {str(target.row.pk): 1})
    assert at.reason == "could not start on node-2: it broke"


def test_a_failover_supersedes_the_migrate_under_way(hand: OwnerSession, target: FakeNode) -> None:
    migrate = migrated(hand, target)
    lose(hand.daemon)
    failover = failing_over(hand, target)
    assert (state(migrate), state(failover)) == ("superseded", "preparing")
    assert [e.handoff for e in target.desired("prepare")] == [failover.pk]


def test_request_on_an_old_epoch_is_refused(hand: OwnerSession, target: FakeNode) -> None:
    with pytest.raises(Refused, match="was granted again") as refused:
        hand.move_to(target, actor="balancer", seen_epoch=hand.run().epoch - 1)
    assert refused.value.code == "superseded"
    assert Handoff.objects.filter(kind="migrate").count() == 0


# --- stop and delete ---------------------------------------------------------------------------


def test_a_stop_ends_with_the_release(hand: OwnerSession) -> None:
    before = hand.run()
    handoff = operations.stop("p", actor="ann", reason="enough")
    words = hand.release_words(handoff, events=2)
    assert hand.daemon.release(words).answer == "handed_over"
    assert hand.daemon.release(words).answer == "handed_over"
    at = hand.run()
    assert (at.node_id, at.phase, at.epoch) == (None, "stopped", before.epoch + 1)
    assert (at.last_seq, at.reason) == (before.last_seq + 2, "enough")
    assert (state(handoff), hand.daemon.owns()) == ("done", [])


def test_late_release_ends_a_stop(hand: OwnerSession) -> None:
    handoff = operations.stop("p", actor="ann")
    assert expire_handoff(handoff) == "done"
    assert hand.run().phase == "stopped"
    assert hand.commit(epoch=hand.run().epoch - 1) == "fenced"


@pytest.mark.parametrize("gone", ["expired", "lost"])
def test_stop_on_an_unreachable_node_is_done_at_once(hand: OwnerSession, gone: str) -> None:
    {"expired": expire_lease, "lost": lose}[gone](hand.daemon)
    operations.stop("p", actor="ann")
    assert hand.run().phase == "stopped"
    assert newest_handoff(hand.portfolio).state == "done"


def test_a_stop_of_a_node_lost_after_it_was_asked_is_not_waited_for(hand: OwnerSession) -> None:
    handoff = operations.stop("p", actor="ann")
    lose(hand.daemon)
    assert execute(overdue(timing())) == [handoff.pk]
    looked_at(handoff)
    assert hand.run().phase == "stopped"


@pytest.mark.parametrize("under_way", [migrated, draining, activating])
def test_stop_supersedes_any_handoff(
    hand: OwnerSession, target: FakeNode, under_way: object
) -> None:
    first = under_way(hand, target)  # type: ignore[operator]
    stop = operations.stop("p", actor="ann")
    assert (state(first), state(stop)) == ("superseded", "draining")
    holder = OwnerSession(
        {hand.daemon.row.pk: hand.daemon, target.row.pk: target}[hand.run().node_id or 0],
        hand.portfolio,
    )
    assert holder.release(stop).answer == "handed_over"
    assert hand.run().phase == "stopped"
    assert Handoff.objects.filter(state__in=("preparing", "draining", "activating")).count() == 0


@pytest.mark.parametrize("under_way", [migrated, draining, activating])
def test_delete_supersedes_any_handoff_and_frees_the_name(
    hand: OwnerSession, target: FakeNode, under_way: object
) -> None:
    first = under_way(hand, target)  # type: ignore[operator]
    operations.delete_portfolio("p", actor="ann")
    assert state(first) == "superseded"
    expire_handoff(newest_handoff(hand.portfolio))
    assert hand.run().node_id is None
    again = operations.create_portfolio(
        operations.NewPortfolio(name="p", strategy="canary"), actor="ann"
    )
    assert again.pk != hand.portfolio.pk


def test_start_during_a_stop_leaves_the_portfolio_pending(
    hand: OwnerSession,
) -> None:
    stop = operations.stop("p", actor="ann")
    assert operations.start("p", actor="ann") is None
    hand.release(stop)
    at = hand.run()
    assert (at.phase, at.node_id) == ("pending", None)


def test_second_stop_returns_the_active_one(hand: OwnerSession) -> None:
    stop = operations.stop("p", actor="ann")
    assert operations.delete_portfolio("p", actor="ann") == stop
    assert Handoff.objects.filter(kind="stop").count() == 1


# --- one at a time, and a place for each -------------------------------------------------------


def test_second_migrate_is_refused_with_the_active_handoff(
    hand: OwnerSession, target: FakeNode
) -> None:
    first = migrated(hand, target)
    make_node("node-3")
    with pytest.raises(Refused) as refused:
        operations.migrate("p", "node-3", actor="ann")
    assert refused.value.code == "handoff_in_progress"
    assert refused.value.extra == {"handoff": first.pk}


def test_batch_takes_the_last_capacity_of_a_node_once(source: FakeNode) -> None:
    small = make_node("node-2", capacity=1)
    first, second = make_trader("a", source), make_trader("b", source)
    migrated(first, small)
    with pytest.raises(Refused) as refused:
        second.move_to(small)
    assert refused.value.code == "node_full"
    assert refused.value.message == (
        "Node node-2 has no room for b (weight 1): 1 of 1 are taken; choose another."
    )


def test_a_target_without_a_valid_lease_is_refused(hand: OwnerSession, target: FakeNode) -> None:
    expire_lease(target)
    with pytest.raises(Refused) as refused:
        hand.move_to(target)
    assert refused.value.code == "node_lost"


# --- the trail ---------------------------------------------------------------------------------


def test_tenures_tile_and_equal_the_grants_of_the_audit_log(
    hand: OwnerSession, source: FakeNode, target: FakeNode
) -> None:
    activating(hand, target)
    owner("p", target).commit(5)
    back = migrated(owner("p", target), source)
    source.ready(back)
    expire_handoff(back)
    hand.commit(2)
    hand.release(operations.stop("p", actor="ann"), events=1)
    operations.start("p", actor="ann")
    source.prepare()
    target.prepare()
    at = hand.run()
    tenures = list(Tenure.objects.filter(portfolio=hand.portfolio).order_by("epoch"))
    assert [t.to_seq for t in tenures[:-1]] == [t.from_seq for t in tenures[1:]]
    assert (tenures[-1].epoch, tenures[-1].to_seq) == (at.epoch, None)
    told = Event.objects.filter(portfolio=hand.portfolio, kind="granted").order_by("id")
    assert [
        (e.data["epoch"], e.node_id, e.data["incarnation"], e.data["revision"], e.data["from_seq"])
        for e in told
    ] == [(t.epoch, t.node_id, str(t.incarnation), t.revision, t.from_seq) for t in tenures]


def test_every_change_of_a_desired_set_raises_its_version(
    hand: OwnerSession, source: FakeNode, target: FakeNode
) -> None:
    def versions() -> tuple[int, ...]:
        return tuple(Node.objects.order_by("id").values_list("desired_version", flat=True))

    seen = [versions()]
    handoff = migrated(hand, target)
    seen.append(versions())
    target.ready(handoff)
    seen.append(versions())
    hand.release(handoff)
    seen.append(versions())
    owner("p", target).commit(0)
    seen.append(versions())
    assert all(after[i] > before[i] for before, after in pairwise(seen) for i in (0, 1))
