"""Slow infrastructure: missed deadlines do not count against healthy portfolios."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from portfolios.models import FeedSegment, Portfolio
from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact import alerts, unheld_runs
from scheduling.enact.handoff import find_overdue
from scheduling.enact.lease import record_gateway_alive
from scheduling.enact.stalls import mark_stalls
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Alert, Gateway, Handoff, Run
from scheduling.observe.snapshot import observe
from scheduling.timing import timing
from tests.support.factories import (
    FakeNode,
    ago,
    expire_handoff,
    lose,
    make_node,
    make_portfolio,
    make_trader,
    newest_handoff,
    run_of,
    serving_since,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def nodes() -> list[FakeNode]:
    return [make_node(f"node-{n}") for n in (1, 2, 3)]


def placed_late(portfolio: Portfolio, node: FakeNode, *, prepared: bool) -> None:
    """Place it on `node`, which misses the deadline of its first or of its second step."""
    operations.migrate(portfolio.name, node.name, actor="ann")
    handoff = newest_handoff(portfolio)
    if prepared:
        assert node.ready(handoff) == "activating"
    assert expire_handoff(handoff) == ("rolled_back" if prepared else "failed")


@pytest.mark.parametrize(
    ("prepared", "why"), [(False, "could not prepare in 30 s"), (True, "did not commit in 10 s")]
)
def test_deadlines_missed_on_different_healthy_nodes_never_quarantine(
    nodes: list[FakeNode], prepared: bool, why: str
) -> None:
    portfolio = make_portfolio("p")
    for number in range(7):
        placed_late(portfolio, nodes[number % 3], prepared=prepared)
    at = run_of(portfolio)
    assert (at.phase, at.node_id, at.attempts, at.failures_by_node) == ("pending", None, 0, {})
    assert at.reason == f"could not start in time: node-1 {why}"


def test_node_that_missed_two_deadlines_is_skipped_for_a_while(nodes: list[FakeNode]) -> None:
    portfolio = make_portfolio("p")
    for _ in range(2):
        placed_late(portfolio, nodes[0], prepared=False)
    operations.unpin("p", actor="ann")
    (view,) = observe(timing()).snapshot.portfolios
    assert view.failed_nodes == {nodes[0].row.pk}
    assert view.not_before is not None


def test_failover_that_misses_its_prepare_deadline_is_not_an_attempt(nodes: list[FakeNode]) -> None:
    hand = make_trader("p", nodes[0])
    lose(nodes[0])
    operations.migrate("p", "node-2", actor="ann")
    assert expire_handoff(newest_handoff(hand.portfolio)) == "failed"
    at = hand.run()
    assert (at.attempts, at.failures_by_node) == (0, {})
    assert at.reason == "could not start on node-2: node-2 could not prepare in 30 s"


# --- commits that do not get through -------------------------------------------------------------


def stand(for_s: float, ago_s: float = 0.0) -> None:
    """Record that `ago_s` ago a gateway reported blocked commits."""
    Gateway.objects.update(commits_stood_at=ago(ago_s), commits_stand_since=ago(ago_s + for_s))


def test_no_deadline_expires_while_no_commit_succeeds(nodes: list[FakeNode]) -> None:
    waits = make_trader("waits", nodes[1])
    Run.objects.update(first_commit_at=None, phase="starting", granted_at=ago(60))
    for node in nodes:
        node.row.lease.refresh_from_db()
        node.row.lease.taken_at = ago(60)
        node.row.lease.save()
    make_portfolio("p")
    operations.migrate("p", "node-1", actor="ann")
    Handoff.objects.filter(state="preparing").update(deadline_at=ago(1))

    def judged() -> tuple[int, int]:
        late = execute(find_overdue(timing()))
        return len(late), len(execute(unheld_runs.find_unactivated(timing())))

    serving_since(3600)  # a pulse counts for 3 s, and a busy machine may have taken them
    assert judged() == (1, 1)
    stand(for_s=20)
    assert judged() == (0, 0)
    stand(for_s=20, ago_s=timing().heartbeat_interval_s - 1)  # they have that long to catch up
    assert judged() == (0, 0)
    stand(for_s=20, ago_s=timing().heartbeat_interval_s + 1)
    assert judged() == (1, 1)
    assert waits.run().phase == "starting"


def test_start_of_blocked_commits_is_kept_across_pulses(db: Any) -> None:
    execute(record_gateway_alive(timing(), GATEWAY_ID))
    assert Gateway.objects.get().commits_stood_at is None
    execute(record_gateway_alive(timing(), GATEWAY_ID, blocked_s=5.0))
    first = Gateway.objects.get()
    assert first.commits_stood_at is not None and first.commits_stand_since is not None
    stood_s = (first.commits_stood_at - first.commits_stand_since).total_seconds()
    assert stood_s == pytest.approx(5, abs=0.1)
    # Of another process, where it began later.
    execute(record_gateway_alive(timing(), GATEWAY_ID, blocked_s=1.0))
    execute(record_gateway_alive(timing(), GATEWAY_ID))
    second = Gateway.objects.get()
    assert second.commits_stand_since == first.commits_stand_since
    assert second.commits_stood_at is not None and second.commits_stood_at > first.commits_stood_at
    stand(for_s=60, ago_s=100)
    execute(record_gateway_alive(timing(), GATEWAY_ID, blocked_s=1.0))  # another time
    third = Gateway.objects.get()
    assert third.commits_stand_since is not None and third.commits_stand_since > ago(2)


def test_blocked_commits_of_one_process_suspend_no_deadline_while_another_succeeds(
    nodes: list[FakeNode],
) -> None:
    serving_since(3600)
    make_portfolio("p")
    operations.migrate("p", "node-1", actor="ann")
    Handoff.objects.filter(state="preparing").update(deadline_at=ago(1))
    execute(record_gateway_alive(timing(), uuid4(), passed_s=0.5))
    execute(record_gateway_alive(timing(), GATEWAY_ID, blocked_s=60.0))
    assert not Gateway.objects.exclude(commits_stood_at=None).exists()
    assert len(execute(find_overdue(timing()))) == 1
    # The other one stands as well: none has got through for the length of a gap.
    Gateway.objects.update(commits_passed_at=ago(timing().pulse_gap_s + 0.1))
    execute(record_gateway_alive(timing(), GATEWAY_ID, blocked_s=60.0))
    assert execute(find_overdue(timing())) == []


def test_last_successful_commit_is_kept_and_a_future_one_ignored(nodes: list[FakeNode]) -> None:
    execute(record_gateway_alive(timing(), GATEWAY_ID, passed_s=1.0))
    latest = Gateway.objects.get().commits_passed_at
    execute(record_gateway_alive(timing(), GATEWAY_ID))  # it does not know of any
    assert Gateway.objects.get().commits_passed_at == latest
    Gateway.objects.update(commits_passed_at=ago(-600))  # the clock was set back since
    execute(record_gateway_alive(timing(), GATEWAY_ID, blocked_s=5.0, passed_s=5.0))
    row = Gateway.objects.get()
    assert row.commits_stood_at is not None
    assert row.commits_passed_at is not None and row.commits_passed_at < ago(4)


def test_blocked_commits_open_one_alert_and_no_portfolio_is_stalled(nodes: list[FakeNode]) -> None:
    hand = make_trader("p", nodes[0])
    serving_since(3600)
    FeedSegment.objects.update(from_time=ago(3600))
    Run.objects.update(last_commit_at=ago(61))
    stand(for_s=61)
    assert execute(mark_stalls(timing())) == 0
    execute(alerts.update_alerts(timing()))
    (alert,) = Alert.objects.filter(closed_at=None)
    assert (alert.kind, alert.key) == ("commits_stand", "fleet")
    assert alert.reason.startswith("no commit gets through since ")
    stand(for_s=61, ago_s=31)
    execute(alerts.update_alerts(timing()))
    assert not Alert.objects.filter(closed_at=None).exists()
    assert execute(mark_stalls(timing())) == 1
    assert hand.run().stalled_at is not None
