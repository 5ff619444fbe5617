"""A look that reads only what changed sees what a look at everything sees."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from django.db import connection

from portfolios.models import FeedRow, Portfolio, Revision
from scheduling import operations
from scheduling.db.statements import Statement
from scheduling.db.transaction import django_cursor
from scheduling.decide.types import Snapshot
from scheduling.errors import SnapshotUnavailable
from scheduling.models import Handoff, Node, Run
from scheduling.observe import snapshot as look
from scheduling.observe.snapshot import PORTFOLIOS, observe
from scheduling.observe.snapshot_cache import SnapshotCache
from scheduling.timing import timing
from tests.support.factories import FakeNode, lose, make_node, make_portfolio, make_trader, owner

# Committed, each change by itself: what a transaction sees of its own always counts as changed.
pytestmark = pytest.mark.django_db(transaction=True)


def seen(standing: SnapshotCache | None = None) -> Snapshot:
    """The fleet in the order of ids, as of no particular moment."""
    found = observe(timing(), standing).snapshot
    in_order = tuple(sorted(found.portfolios, key=lambda each: each.id))
    return replace(found, taken_at=0, portfolios=in_order)


def revised() -> None:
    Revision.objects.filter(portfolio__name="a").update(strategy_version=7)


def deleted() -> None:
    Portfolio.objects.filter(name="b").update(archived_at="2026-01-01T00:00:00Z")


def failed_lately() -> None:
    handoff = operations.migrate("a", "node-2", actor="cast")
    two = next(node for node in look_at_nodes() if node.name == "node-2")
    two.fails(handoff)


def look_at_nodes() -> list[FakeNode]:
    return [FakeNode(row, row.lease.incarnation) for row in Node.objects.all()]


CHANGES: dict[str, Callable[[], object]] = {
    "weight": lambda: Portfolio.objects.filter(name="a").update(weight=3),
    "selector": lambda: Portfolio.objects.filter(name="a").update(selector={"gpu": "yes"}),
    "a new one": lambda: make_portfolio("c"),
    "deleted": deleted,
    "pin": lambda: operations.migrate("a", "node-2", actor="cast"),
    "phase": lambda: Run.objects.filter(portfolio__name="a").update(phase="halted"),
    "failures": lambda: Run.objects.filter(portfolio__name="a").update(failures_by_node={"7": 2}),
    "revision": revised,
    "feed": lambda: FeedRow.objects.update(sha256="f" * 64),
    "a failed move": failed_lately,
    "stop": lambda: operations.stop("a", actor="cast"),
    "node lost": lambda: lose(look_at_nodes()[0]),
}


@pytest.fixture
def standing() -> SnapshotCache:
    """Two portfolios run, and somebody has looked."""
    one = make_node("node-1")
    make_node("node-2")
    make_trader("a", one)
    make_trader("b", one)
    found = SnapshotCache()
    observe(timing(), found)
    return found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[list[int] | None]:
    """What each look reads anew; None: everything."""
    noted: list[list[int] | None] = []
    stale = SnapshotCache.ids_to_refresh

    def noting(self: SnapshotCache, since: int | None, changes: Any) -> list[int] | None:
        noted.append(stale(self, since, changes))
        return noted[-1]

    monkeypatch.setattr(SnapshotCache, "ids_to_refresh", noting)
    return noted


def settle(standing: SnapshotCache) -> None:
    """Count all transactions so far as settled: other tests run some on this server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        (standing._unsettled,) = cursor.fetchone()


def id_of(name: str) -> int:
    return Portfolio.objects.get(name=name).pk


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_is_seen(standing: SnapshotCache, change: Callable[[], object]) -> None:
    before = seen()
    change()
    after = seen()
    assert after != before
    assert seen(standing) == after


def test_a_handoff_that_ends_is_seen_to_end(standing: SnapshotCache) -> None:
    """It leaves nothing that says so: no row of it, and a run that is as it was."""
    handoff = operations.migrate("a", "node-2", actor="cast")
    assert seen(standing).portfolios[0].handoff is not None
    Handoff.objects.filter(pk=handoff.pk).update(state="failed")
    assert seen(standing) == seen()
    assert seen(standing).portfolios[0].handoff is None


def test_every_column_of_a_run_that_is_read_is_stamped() -> None:
    with django_cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_triggerdef(oid) AS text FROM pg_trigger WHERE tgname = 'run_changed'"
        )
        compared = set(re.findall(r"old\.(\w+)", cursor.fetchone().text))  # type: ignore[union-attr]
    assert compared == set(re.findall(r"\br\.(\w+)", PORTFOLIOS.sql)) - {"portfolio_id"}


def test_a_wait_after_failures_ends_with_time(standing: SnapshotCache) -> None:
    failed_lately()
    assert any(each.not_before for each in seen(standing).portfolios)
    Handoff.objects.update(finished_at="2026-01-01T00:00:00Z")
    assert not any(each.not_before for each in seen(standing).portfolios)


def test_a_commit_makes_nobody_read_anything(
    standing: SnapshotCache, read: list[list[int] | None]
) -> None:
    settle(standing)
    assert owner("a", look_at_nodes()[0]).commit(3) == "ok"
    observe(timing(), standing)
    assert read == [[]]


def test_only_what_changed_is_read_and_once(
    standing: SnapshotCache, read: list[list[int] | None]
) -> None:
    settle(standing)
    Portfolio.objects.filter(name="a").update(priority=9)
    observe(timing(), standing)
    assert read == [[id_of("a")]]
    until = time.monotonic() + 60  # another test's transaction may have begun before ours ended
    while read[-1] and time.monotonic() < until:
        observe(timing(), standing)
    assert read[-1] == []


@contextmanager
def another() -> Iterator[psycopg.Connection[Any]]:
    """Somebody else's transaction, open."""
    params = connection.get_connection_params()
    params.pop("cursor_factory", None)
    params.pop("context", None)
    with psycopg.connect(**params) as other:
        yield other


def test_a_change_committed_late_is_read_although_a_later_one_was_read_before(
    standing: SnapshotCache, read: list[list[int] | None]
) -> None:
    """A number alone cannot do this: it is taken before the look and visible only after it."""
    settle(standing)
    with another() as early:
        early.execute("UPDATE portfolios_portfolio SET priority = 9 WHERE name = 'a'")
        Portfolio.objects.filter(name="b").update(priority=8)
        assert [each.priority for each in seen(standing).portfolios] == [0, 8]
        early.commit()
    assert [each.priority for each in seen(standing).portfolios] == [9, 8]
    # While it was open nothing after it was settled, so b is read twice.
    assert read == [[id_of("b")], [id_of("a"), id_of("b")]]


def test_on_another_server_nothing_counts_that_was_seen(
    standing: SnapshotCache, read: list[list[int] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored database counts its transactions from elsewhere, also below what is known."""
    monkeypatch.setattr(standing, "_of", "the server of yesterday")
    monkeypatch.setattr(standing, "_unsettled", 2**62)
    Portfolio.objects.filter(name="a").update(priority=9)
    assert seen(standing) == seen()
    assert read[0] is None


@pytest.mark.parametrize("table", ["scheduling_run", "portfolios_portfolio", "portfolios_revision"])
def test_in_tables_that_were_filled_anew_nothing_counts_that_was_seen(
    standing: SnapshotCache, read: list[list[int] | None], table: str
) -> None:
    """A dump is restored with its old stamps: triggers come after the rows."""
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM FULL {table}")  # writes it anew, as a restore does
    observe(timing(), standing)
    assert read == [None]


def test_a_stamp_of_another_server_is_not_read_at_every_look(
    standing: SnapshotCache, read: list[list[int] | None]
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE scheduling_run DISABLE TRIGGER run_changed")
        cursor.execute("UPDATE scheduling_run SET changed_in = %s", [2**62])
        cursor.execute("ALTER TABLE scheduling_run ENABLE TRIGGER run_changed")
    settle(standing)
    observe(timing(), standing)
    assert read == [[]]


def test_after_a_failed_look_everything_is_read_anew(
    standing: SnapshotCache, read: list[list[int] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(look, "NODES", Statement("NODES", "SELECT 1 / 0"))
        with pytest.raises(SnapshotUnavailable):
            observe(timing(), standing)
    assert seen(standing) == seen()
    assert read[0] is None


def test_the_snapshot_knows_which_portfolios_have_a_reason(standing: SnapshotCache) -> None:
    run = Run.objects.get(portfolio__name="a")
    Run.objects.filter(pk=run.pk).update(reason="why")
    assert observe(timing(), standing).with_reason == {run.pk}
    Run.objects.filter(pk=run.pk).update(reason="")
    assert observe(timing(), standing).with_reason == set()
