"""The steps before the grant: late steps, and nodes that are lost meanwhile."""

from __future__ import annotations

import pytest

from portfolios.models import Artifact, Revision
from scheduling.db.transaction import execute
from scheduling.enact.handoff import find_overdue
from scheduling.models import Handoff
from scheduling.timing import timing
from tests.integration.enact.handoff.conftest import (
    draining,
    error,
    expire_if_late,
    failing_over,
    migrated,
)
from tests.support.artifacts import store_artifact
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    expire_handoff,
    lose,
    owner,
    serving_since,
    state_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


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
    waits_s = (handoff.deadline_at - handoff.requested_at).total_seconds()
    assert waits_s == pytest.approx(360, abs=0.1)
    assert expire_handoff(handoff) == "failed"
    assert error(handoff) == "node-2 could not prepare in 360 s"
    lose(source)
    failover = failing_over(hand, target)
    waits_s = (failover.deadline_at - failover.requested_at).total_seconds()
    assert waits_s == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize(
    ("serving", "last_beat"), [(3.0, 0.0), (300.0, 3.1)], ids=["just back", "not back yet"]
)
def test_no_deadline_is_judged_while_the_gateway_is_unreachable(
    hand: OwnerSession, target: FakeNode, serving: float, last_beat: float
) -> None:
    handoff = migrated(hand, target)
    Handoff.objects.filter(pk=handoff.pk).update(deadline_at="2000-01-01T00:00:00Z")
    serving_since(serving, pulsed_ago=last_beat)
    assert execute(find_overdue(timing())) == []
    serving_since(60.0)
    assert execute(find_overdue(timing())) == [handoff.pk]


def test_late_release_raises_the_epoch_without_the_source(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = draining(hand, target)
    late = hand.release_message(handoff, events=1)
    assert expire_handoff(handoff) == "activating"
    assert hand.daemon.release(late).answer == "fenced"
    assert owner("p", target).commit(0) == "ok"
    row = Handoff.objects.get(pk=handoff.pk)
    assert (row.state, row.released_at) == ("done", None)
    assert row.error == "node-1 did not release in 5 s: the epoch was raised without it"


def test_a_source_node_lost_before_its_release_is_not_waited_for(
    hand: OwnerSession, target: FakeNode
) -> None:
    handoff = draining(hand, target)
    lose(hand.daemon)
    assert execute(find_overdue(timing())) == [handoff.pk]
    expire_if_late(handoff)
    assert state_of(handoff) == "activating"
    assert error(handoff) == "node-1 is gone: the epoch was raised without it"
    assert owner("p", target).commit(0) == "ok"
