"""The stored row of a node-loss forecast, and which of two watchers may replace it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from scheduling.db.transaction import execute
from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.what_if.node_loss import NodeLoss, forecast_node_loss
from scheduling.enact.node_loss import StoredForecast, store
from scheduling.models import Resilience as Row
from tests.support.factories import FakeNode, ago, make_node
from tests.support.plan_factories import NOW, node, on, world

pytestmark = pytest.mark.django_db


@pytest.fixture
def daemon() -> FakeNode:
    return make_node("node-1")


@pytest.fixture
def loss(daemon: FakeNode) -> NodeLoss:
    """Of three that run on node-1, two would have to wait and one would have no place."""
    waiting = on(1, "a", "b", not_before=NOW + 5)
    seen = world([node(1), node(2)], [*waiting, *on(1, "gpu", selector={"gpu": "yes"})])
    found = forecast_node_loss(seen, seen.nodes[0], FleetIndex.of(seen.portfolios), frozenset())
    return replace(found, node=daemon.row.pk, suspects=("node-2",))


def write(loss: NodeLoss, as_of: float) -> int:
    """Store the forecast; return how many rows that wrote."""
    return execute(store([StoredForecast(loss, as_of)], [loss.node]))


def test_a_node_loss_forecast_is_stored_with_all_its_figures(loss: NodeLoss) -> None:
    assert write(loss, time.time()) == 1
    row = Row.objects.get()
    assert (row.runs, row.fit, row.suspects) == (3, 0, ["node-2"])
    assert (row.homeless, row.waiting) == (1, 2)
    told = [(reason["code"], reason["portfolios"]) for reason in row.reasons]
    assert told == [("no_selector", ["gpu"]), ("backing_off", ["a", "b"])]


def test_older_forecast_replaces_a_stored_one_only_if_that_is_of_the_future(loss: NodeLoss) -> None:
    now = time.time()
    assert write(loss, now) == 1
    assert write(replace(loss, runs=77), now - 5) == 0
    # A forecast dated in the future was made before the clock was set back.
    Row.objects.update(as_of=ago(-3600))
    assert write(replace(loss, runs=78), now) == 1
    assert Row.objects.get().runs == 78


def test_forecast_of_a_node_forgotten_meanwhile_is_skipped_and_the_others_are_stored(
    daemon: FakeNode, loss: NodeLoss
) -> None:
    gone = make_node("node-2").row
    known = [StoredForecast(replace(loss, node=pk), time.time()) for pk in (gone.pk, daemon.row.pk)]
    gone.delete()
    assert execute(store(known, [each.loss.node for each in known])) == 1
    assert Row.objects.get().node == daemon.row
