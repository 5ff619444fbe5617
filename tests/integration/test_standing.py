"""A look that reads only what changed sees what a look at everything sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from django.db import transaction

from portfolios.models import FeedRow, Portfolio, Revision
from scheduling import requests
from scheduling.decide.world import Snapshot
from scheduling.enact.recipe import django_cursor
from scheduling.enact.timing import timing
from scheduling.errors import SnapshotUnavailable
from scheduling.models import Handoff, Node, Run
from scheduling.observe import snapshot as look
from scheduling.observe.snapshot import observe
from scheduling.observe.standing import BUCKET, DIGESTS, Standing
from tests.fleet_cast import Daemon, a_node, a_portfolio, a_trader, lose, owner

pytestmark = pytest.mark.django_db


def seen(standing: Standing | None = None) -> Snapshot:
    """The fleet in the order of ids, as of no particular moment."""
    found = observe(timing(), standing).snapshot
    in_order = tuple(sorted(found.portfolios, key=lambda each: each.id))
    return replace(found, taken_at=0, portfolios=in_order)


def revised() -> None:
    Revision.objects.filter(portfolio__name="a").update(strategy_version=7)


def deleted() -> None:
    Portfolio.objects.filter(name="b").update(archived_at="2026-01-01T00:00:00Z")


def failed_lately() -> None:
    handoff = requests.migrate("a", "node-2", actor="cast")
    two = next(node for node in look_at_nodes() if node.name == "node-2")
    two.fails(handoff)


def look_at_nodes() -> list[Daemon]:
    return [Daemon(row, row.lease.incarnation) for row in Node.objects.all()]


CHANGES: dict[str, Callable[[], object]] = {
    "weight": lambda: Portfolio.objects.filter(name="a").update(weight=3),
    "selector": lambda: Portfolio.objects.filter(name="a").update(selector={"gpu": "yes"}),
    "a new one": lambda: a_portfolio("c"),
    "deleted": deleted,
    "pin": lambda: requests.migrate("a", "node-2", actor="cast"),
    "phase": lambda: Run.objects.filter(portfolio__name="a").update(phase="halted"),
    "failures": lambda: Run.objects.filter(portfolio__name="a").update(failures_by_node={"7": 2}),
    "revision": revised,
    "feed": lambda: FeedRow.objects.update(sha256="f" * 64),
    "a failed move": failed_lately,
    "stop": lambda: requests.stop("a", actor="cast"),
    "node lost": lambda: lose(look_at_nodes()[0]),
}


@pytest.fixture
def standing() -> Standing:
    """Two portfolios run, and somebody has looked."""
    one = a_node("node-1")
    a_node("node-2")
    a_trader("a", one)
    a_trader("b", one)
    found = Standing()
    observe(timing(), found)
    return found


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_is_seen(standing: Standing, change: Callable[[], object]) -> None:
    before = seen()
    change()
    after = seen()
    assert after != before
    assert seen(standing) == after


def test_what_failed_lately_is_forgotten_with_time(standing: Standing) -> None:
    failed_lately()
    assert any(each.not_before for each in seen(standing).portfolios)
    Handoff.objects.update(finished_at="2026-01-01T00:00:00Z")
    assert not any(each.not_before for each in seen(standing).portfolios)


def test_a_commit_makes_nobody_read_anything(standing: Standing) -> None:
    assert owner("a", look_at_nodes()[0]).commit(3) == "ok"
    assert stale(standing) == []


def test_one_that_changed_has_its_neighbours_read_and_nobody_else(standing: Standing) -> None:
    number = Portfolio.objects.get(name="a").pk
    Portfolio.objects.filter(name="a").update(priority=9)
    first = number // BUCKET * BUCKET
    assert stale(standing) == list(range(first, first + BUCKET))


def test_after_a_failed_look_everything_is_read_anew(
    standing: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(look, "NODES", "SELECT 1 / 0")
        with pytest.raises(SnapshotUnavailable), transaction.atomic():
            observe(timing(), standing)
    assert stale(standing) is None
    assert seen(standing) == seen()


def test_who_carries_a_reason_is_known_without_looking_at_all(standing: Standing) -> None:
    run = Run.objects.get(portfolio__name="a")
    Run.objects.filter(pk=run.pk).update(reason="why")
    assert observe(timing(), standing).with_reason == {run.pk}
    Run.objects.filter(pk=run.pk).update(reason="")
    assert observe(timing(), standing).with_reason == set()


def stale(standing: Standing) -> list[int] | None:
    """Return what the next look would read."""
    return standing.stale({row.bucket: row.digest for row in django_cursor().execute(DIGESTS)})
