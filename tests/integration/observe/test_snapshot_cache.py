"""A cached snapshot, which reads only changed rows, equals a new one that reads all."""

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
from tests.support.kept_rows import KeptRows

# Committed, each change by itself: what a transaction sees of its own always counts as changed.
pytestmark = pytest.mark.django_db(transaction=True)


def read_snapshot(cache: SnapshotCache | None = None) -> Snapshot:
    """Return the snapshot with portfolios in the order of ids, without its time."""
    found = observe(timing(), cache).snapshot
    in_order = tuple(sorted(found.portfolios, key=lambda each: each.id))
    return replace(found, taken_at=0, portfolios=in_order)


def revise() -> None:
    Revision.objects.filter(portfolio__name="a").update(strategy_version=7)


def delete() -> None:
    Portfolio.objects.filter(name="b").update(archived_at="2026-01-01T00:00:00Z")


def fail_a_move() -> None:
    handoff = operations.migrate("a", "node-2", actor="cast")
    next(node for node in stored_nodes() if node.name == "node-2").fails(handoff)


def stored_nodes() -> list[FakeNode]:
    return [FakeNode(row, row.lease.incarnation) for row in Node.objects.all()]


CHANGES: dict[str, Callable[[], object]] = {
    "weight": lambda: Portfolio.objects.filter(name="a").update(weight=3),
    "selector": lambda: Portfolio.objects.filter(name="a").update(selector={"gpu": "yes"}),
    "a new one": lambda: make_portfolio("c"),
    "deleted": delete,
    "pin": lambda: operations.migrate("a", "node-2", actor="cast"),
    "phase": lambda: Run.objects.filter(portfolio__name="a").update(phase="halted"),
    "failures": lambda: Run.objects.filter(portfolio__name="a").update(failures_by_node={"7": 2}),
    "revision": revise,
    "feed": lambda: FeedRow.objects.update(sha256="f" * 64),
    "a failed move": fail_a_move,
    "stop": lambda: operations.stop("a", actor="cast"),
    "node lost": lambda: lose(stored_nodes()[0]),
}


def make_traders() -> None:
    one = make_node("node-1")
    make_node("node-2")
    make_trader("a", one)
    make_trader("b", one)


TRADERS = KeptRows(make_traders)


@pytest.fixture
def cache() -> SnapshotCache:
    """Return a cache that has read two running portfolios."""
    TRADERS.get()
    for node in stored_nodes():
        node.beat()
    found = SnapshotCache()
    observe(timing(), found)
    return found


@pytest.fixture
def refreshed(monkeypatch: pytest.MonkeyPatch) -> list[list[int] | None]:
    """Return a list to which each look adds the ids that it refreshes; None means all."""
    noted: list[list[int] | None] = []
    stale = SnapshotCache.ids_to_refresh

    def noting(self: SnapshotCache, since: int | None, changes: Any) -> list[int] | None:
        noted.append(stale(self, since, changes))
        return noted[-1]

    monkeypatch.setattr(SnapshotCache, "ids_to_refresh", noting)
    return noted


def settle_transactions(cache: SnapshotCache) -> None:
    """Count all earlier transactions as ended: other tests run some on this server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        (cache._first_unseen,) = cursor.fetchone()


def id_of(name: str) -> int:
    return Portfolio.objects.get(name=name).pk


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_cached_snapshot_equals_a_new_one_after_every_kind_of_change(
    cache: SnapshotCache, change: Callable[[], object]
) -> None:
    before = read_snapshot()
    change()
    after = read_snapshot()
    assert after != before
    assert read_snapshot(cache) == after


def test_cached_snapshot_has_no_handoff_once_it_has_ended(cache: SnapshotCache) -> None:
    """It leaves nothing that says so: no row of it, and a run that is as it was."""
    handoff = operations.migrate("a", "node-2", actor="cast")
    assert read_snapshot(cache).portfolios[0].handoff is not None
    Handoff.objects.filter(pk=handoff.pk).update(state="failed")
    assert read_snapshot(cache) == read_snapshot()
    assert read_snapshot(cache).portfolios[0].handoff is None


def test_trigger_stamps_changes_of_every_run_column_that_the_snapshot_reads() -> None:
    sql = "SELECT pg_get_triggerdef(oid) AS text FROM pg_trigger WHERE tgname = 'run_changed'"
    with django_cursor() as cursor:
        cursor.execute(sql)
        compared = set(re.findall(r"old\.(\w+)", cursor.fetchone().text))  # type: ignore[union-attr]
    assert compared == set(re.findall(r"\br\.(\w+)", PORTFOLIOS.sql)) - {"portfolio_id"}


def test_cached_back_off_after_failed_moves_ends_with_time(cache: SnapshotCache) -> None:
    fail_a_move()
    assert any(each.not_before for each in read_snapshot(cache).portfolios)
    Handoff.objects.update(finished_at="2026-01-01T00:00:00Z")
    assert not any(each.not_before for each in read_snapshot(cache).portfolios)


def test_a_commit_causes_no_row_to_be_read_again(
    cache: SnapshotCache, refreshed: list[list[int] | None]
) -> None:
    settle_transactions(cache)
    assert owner("a", stored_nodes()[0]).commit(3) == "ok"
    observe(timing(), cache)
    assert refreshed == [[]]


def test_changed_portfolio_is_read_again_alone_and_once(
    cache: SnapshotCache, refreshed: list[list[int] | None]
) -> None:
    settle_transactions(cache)
    Portfolio.objects.filter(name="a").update(priority=9)
    observe(timing(), cache)
    assert refreshed == [[id_of("a")]]
    until = time.monotonic() + 60  # another test's transaction may have begun before ours ended
    while refreshed[-1] and time.monotonic() < until:
        observe(timing(), cache)
    assert refreshed[-1] == []


@contextmanager
def open_transaction() -> Iterator[psycopg.Connection[Any]]:
    params = connection.get_connection_params()
    params.pop("cursor_factory", None)
    params.pop("context", None)
    with psycopg.connect(**params) as other:
        yield other


def test_a_change_committed_late_is_read_although_a_later_one_was_read_before(
    cache: SnapshotCache, refreshed: list[list[int] | None]
) -> None:
    """A number alone cannot do this: it is taken before the look and visible only after it."""
    settle_transactions(cache)
    with open_transaction() as early:
        early.execute("UPDATE portfolios_portfolio SET priority = 9 WHERE name = 'a'")
        Portfolio.objects.filter(name="b").update(priority=8)
        assert [each.priority for each in read_snapshot(cache).portfolios] == [0, 8]
        early.commit()
    assert [each.priority for each in read_snapshot(cache).portfolios] == [9, 8]
    # While it was open nothing after it was settled, so b is read twice.
    assert refreshed == [[id_of("b")], [id_of("a"), id_of("b")]]


def test_snapshot_cache_reads_everything_from_another_database_server(
    cache: SnapshotCache, refreshed: list[list[int] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored database counts its transactions from elsewhere, also below what is known."""
    monkeypatch.setattr(cache, "_numbering", "the server of yesterday")
    monkeypatch.setattr(cache, "_first_unseen", 2**62)
    Portfolio.objects.filter(name="a").update(priority=9)
    assert read_snapshot(cache) == read_snapshot()
    assert refreshed[0] is None


@pytest.mark.parametrize("table", ["scheduling_run", "portfolios_portfolio", "portfolios_revision"])
def test_snapshot_cache_reads_everything_after_a_table_was_rewritten(
    cache: SnapshotCache, refreshed: list[list[int] | None], table: str
) -> None:
    """A dump is restored with its old stamps: triggers come after the rows."""
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM FULL {table}")  # writes it anew, as a restore does
    observe(timing(), cache)
    assert refreshed == [None]


def test_row_stamped_by_another_server_is_not_read_again_at_every_snapshot(
    cache: SnapshotCache, refreshed: list[list[int] | None]
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE scheduling_run DISABLE TRIGGER run_changed")
        cursor.execute("UPDATE scheduling_run SET changed_in = %s", [2**62])
        cursor.execute("ALTER TABLE scheduling_run ENABLE TRIGGER run_changed")
    settle_transactions(cache)
    observe(timing(), cache)
    assert refreshed == [[]]


def test_snapshot_cache_reads_everything_after_a_failed_read(
    cache: SnapshotCache, refreshed: list[list[int] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(look, "NODES", Statement("NODES", "SELECT 1 / 0"))
        with pytest.raises(SnapshotUnavailable):
            observe(timing(), cache)
    assert read_snapshot(cache) == read_snapshot()
    assert refreshed[0] is None


def test_the_snapshot_knows_which_portfolios_have_a_reason(cache: SnapshotCache) -> None:
    run = Run.objects.get(portfolio__name="a")
    Run.objects.filter(pk=run.pk).update(reason="why")
    assert observe(timing(), cache).with_reason == {run.pk}
    Run.objects.filter(pk=run.pk).update(reason="")
    assert observe(timing(), cache).with_reason == set()
