"""What a lost node ran and where it went is counted for each loss, however long ago it was."""

from __future__ import annotations

import pytest

from portfolios.models import Portfolio
from scheduling.dashboard.board.page import build_board_page
from scheduling.db.transaction import execute
from scheduling.enact.lease import mark_lost
from scheduling.models import Handoff, Lease, Node
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.timing import timing
from tests.support.factories import (
    FakeNode,
    ago,
    expire_lease,
    make_node,
    make_running_portfolio,
    serving_since,
)

pytestmark = pytest.mark.django_db

PORTFOLIOS = 15


@pytest.fixture
def fleet() -> list[FakeNode]:
    serving_since(3600)
    nodes = [make_node(f"node-{n}", capacity=50) for n in (1, 2, 3)]
    make_running_portfolio("p-0", nodes[0])
    make_running_portfolio("q-0", nodes[1])
    return nodes


def lose_at_once(*nodes: FakeNode) -> None:
    for node in nodes:
        expire_lease(node)
    assert [row.name for row in execute(mark_lost(timing()))] == [node.name for node in nodes]


def failovers(source: FakeNode, target: FakeNode, count: int, seconds_ago: float = 0) -> None:
    """Store that `count` portfolios failed over: of each, one attempt failed before."""
    portfolio = Portfolio.objects.get(name="p-0")
    made = []
    for n in range(count):
        each = Portfolio.objects.create(
            name=f"{source.name}-{count}-{n}", feed=portfolio.feed, first_seq=1, archived_at=None
        )
        made += [
            Handoff(
                portfolio=each, kind="failover", state=state, source_node=source.row,
                target_node=target.row, from_epoch=1, from_revision=1, to_revision=1,
                requested_at=ago(seconds_ago), deadline_at=ago(0), finished_at=ago(seconds_ago),
                pause_ms=n if state == "done" else None,
            )
            for state in ("failed", "done")
        ]  # fmt: skip
    Handoff.objects.bulk_create(made)


def test_count_of_a_loss_does_not_depend_on_later_handoffs(fleet: list[FakeNode]) -> None:
    first, second, third = fleet
    lose_at_once(first, second)
    failovers(first, third, PORTFOLIOS)
    failovers(second, third, 4)
    Handoff.objects.create(
        portfolio=Portfolio.objects.get(name="q-0"), kind="place", state="done",
        target_node=third.row, from_epoch=1, from_revision=1, to_revision=1,
        requested_at=ago(0), deadline_at=ago(0), finished_at=ago(0),
    )  # fmt: skip
    seen = read_fleet_view()
    found = {loss.node: (loss.portfolios, loss.moved, len(loss.moves)) for loss in seen.losses}
    assert found == {"node-1": (1, 15, 8), "node-2": (1, 4, 4)}
    page = build_board_page(seen)
    told = sorted(row.kind_text for row in page.recent if row.id is None)
    assert told == ["15 failovers", "4 failovers"]
    assert len(seen.handoffs_recent) == 12
    assert next(h.kind for h in seen.handoffs_single if h.state == "done") == "place"


def test_each_loss_of_a_node_counts_its_own_failovers(fleet: list[FakeNode]) -> None:
    first, _, third = fleet
    lose_at_once(first)
    its = Node.objects.filter(pk=first.row.pk)
    its.update(status_since=ago(600), lost_times=[ago(600).timestamp()])
    failovers(first, third, 3, seconds_ago=590)
    first.beat()
    (loss,) = read_fleet_view().losses
    assert (loss.moved, loss.is_over, loss.moves) == (3, True, [])
    lose_at_once(first)
    failovers(first, third, 2)
    newer, older = read_fleet_view().losses
    assert (newer.moved, newer.is_over, newer.reason) == (2, False, its.get().lost_reason)
    assert (older.moved, older.is_over, older.reason) == (3, True, "")


def test_a_long_lost_node_keeps_its_moved_count_beside_newer_losses(fleet: list[FakeNode]) -> None:
    first, second, third = fleet
    lose_at_once(first)
    failovers(first, third, 2)
    Node.objects.filter(pk=first.row.pk).update(lost_times=[ago(90_000).timestamp()])
    Handoff.objects.update(requested_at=ago(89_000))
    times = [ago(n).timestamp() for n in range(40, 0, -1)]
    Node.objects.filter(pk=second.row.pk).update(lost_times=times)
    losses = read_fleet_view().losses
    assert len(losses) == 13
    assert (losses[-1].node, losses[-1].moved) == ("node-1", 2)
    assert Lease.objects.count() == 3
