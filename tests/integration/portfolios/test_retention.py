"""Retention: partitions are there before the feed is; old ones are archived and dropped."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from django.db import connection

from chaos.harness.installation import budget_s
from ginkgo_site.database import conninfo
from portfolios.models import (
    ArchivedRange,
    EquityPoint,
    FeedRecord,
    FeedRow,
    FeedSegment,
    FeedWriter,
    Fill,
    Order,
    Portfolio,
)
from portfolios.retention import ArchiveDiffers, attach_partitions, maintain, upkeep
from portfolios.retention import archive as archiving
from portfolios.retention import partitions as partitioning
from portfolios.retention.archive import digest_of
from portfolios.retention.kinds import RecordKind, record_kinds
from portfolios.retention.partitions import feed_heads, partitions
from scheduling import retention
from scheduling.models import Alert, Event, Run, VanishedCommits, Verification, VerificationAnchor
from scheduling.operations.feeds import create_feed
from scheduling.retention import delete_rows
from tests.support.alerts import open_alerts
from tests.support.factories import make_node, make_trader

pytestmark = pytest.mark.django_db

DAYS_AGO = 40
RATE = 1_000.0
OLD = datetime.now(UTC) - timedelta(days=DAYS_AGO)


@pytest.fixture
def portfolio(settings: Any) -> Portfolio:
    """Return a portfolio whose feed began 40 days ago at 1,000 events/s; rows are kept for a day.

    The first partitions were made for another feed, of 100 events/s: that one ran through them.
    """
    settings.GINKGO = replace(settings.GINKGO, keep_orders_days=1.0, keep_equity_days=1.0)
    hand = make_trader("p", make_node("node-1"), events=0)
    FeedSegment.objects.all().update(from_seq=1, from_time=OLD, rate=RATE)
    # Before the rows of the tests, however many events were released while a slow machine made it.
    Portfolio.objects.update(first_seq=1)
    hand.portfolio.refresh_from_db()
    return hand.portfolio


def head() -> int:
    """Return the head of the fastest feed."""
    return max(at.seq for at in feed_heads())


def kind(table: str) -> RecordKind:
    return next(kind for kind in record_kinds() if kind.table.endswith(table))


def make_order(portfolio: Portfolio, seq: int, status: str = "filled", **given: Any) -> Order:
    return Order.objects.create(
        id=f"{portfolio.uid}-{seq}-0", portfolio=portfolio, seq=seq, index=0, symbol="IBM",
        side="buy", quantity=Decimal("1.5"), price=Decimal("60.1234"), status=status, epoch=1,
        node="node-1", revision=1, decided_at=OLD, **{"committed_at": OLD, **given},
    )  # fmt: skip


def make_records(portfolio: Portfolio, rows: int) -> None:
    for seq in range(5, 5 + rows):
        order = make_order(portfolio, seq, reason="a\tb" if seq == 5 else "")
        Fill.objects.create(
            portfolio=portfolio, order=order, fill_seq=seq + 1, index=0, symbol="IBM", side="buy",
            quantity=order.quantity, price=order.price, epoch=1, at=OLD,
        )  # fmt: skip
        EquityPoint.objects.create(portfolio=portfolio, seq=seq, at=OLD, equity=Decimal("99.5"))


# --- ahead --------------------------------------------------------------------------------------


def test_partitions_reach_beyond_the_head_of_the_feed(portfolio: Portfolio) -> None:
    assert len(attach_partitions()) >= 3
    for one in record_kinds():
        found = partitions(one)
        assert found[-1].high > head() + one.period_s * RATE
        # Without a hole between them.
        assert [p.high for p in found[:-1]] == [p.low for p in found[1:]]
    assert len(attach_partitions()) <= len(record_kinds())  # the feed went on meanwhile


def test_order_in_the_default_partition_moves_into_its_own_once_that_is_made(
    portfolio: Portfolio,
) -> None:
    order = make_order(portfolio, head())
    assert place(order) == "portfolios_order_default"
    attach_partitions()
    assert place(order).startswith("portfolios_order_from_")
    assert Order.objects.get(pk=order.pk).price == Decimal("60.1234")


def place(order: Order) -> str:
    sql = "SELECT tableoid::regclass::text FROM portfolios_order WHERE id = %s"
    with connection.cursor() as cursor:
        cursor.execute(sql, [order.pk])
        return str(cursor.fetchone()[0])


# --- archive and drop ---------------------------------------------------------------------------


def test_old_rows_are_archived_proven_and_dropped(
    portfolio: Portfolio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "BATCH_ROWS", 7)  # several pieces, the last one smaller
    make_records(portfolio, 20)
    young = make_order(portfolio, head(), committed_at=datetime.now(UTC))
    stored = list(Order.objects.exclude(pk=young.pk).order_by("seq").values())
    done = maintain(tmp_path, {})
    first = {f"portfolios_{name}_first" for name in ("order", "fill", "equitypoint")}
    assert first <= {*done.dropped}
    assert list(Order.objects.all()) == [young]
    assert not (Fill.objects.exists() or EquityPoint.objects.exists())
    assert [one.rows for one in done.archived] == [20, 20, 20]
    path = tmp_path / "portfolios_order" / "portfolios_order_first.parquet"
    kept = pq.read_table(path).to_pylist()
    assert [{**row, "portfolio_id": portfolio.pk} for row in stored] == kept
    proof = digest_of(path)
    metadata = pq.ParquetFile(path).metadata.metadata
    assert metadata[b"ginkgo.rows"] == b"20"
    assert metadata[b"ginkgo.sha256"].decode() == proof.hex
    assert path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.glob("**/.*")) == []  # no draft is left


def test_an_archive_that_cannot_be_read_back_drops_nothing(
    portfolio: Portfolio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_records(portfolio, 5)

    def lost_a_row(path: Path) -> archiving.RowDigest:
        digest = digest_of(path)
        digest.rows -= 1
        return digest

    monkeypatch.setattr(archiving, "digest_of", lost_a_row)
    with pytest.raises(ArchiveDiffers, match=r"holds 4 rows .* but 5 rows .* were written"):
        maintain(tmp_path, {})
    assert Fill.objects.count() == Order.objects.count() == 5
    assert list(tmp_path.glob("**/*.parquet")) == []


def test_archive_file_written_before_a_restore_is_not_overwritten(
    portfolio: Portfolio, tmp_path: Path
) -> None:
    make_records(portfolio, 2)
    folder = tmp_path / "portfolios_order"
    archiving.archive(kind("order"), "portfolios_order_first", tmp_path)
    before = (folder / "portfolios_order_first.parquet").read_bytes()
    make_order(portfolio, 100)
    again = archiving.archive(kind("order"), "portfolios_order_first", tmp_path)
    assert again.path.name == "portfolios_order_first-2.parquet"
    assert (folder / "portfolios_order_first.parquet").read_bytes() == before
    # The same rows once more are the same file.
    assert archiving.archive(kind("order"), "portfolios_order_first", tmp_path).path == again.path


def test_a_row_that_comes_between_archive_and_detach_is_archived_too(
    portfolio: Portfolio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_records(portfolio, 3)
    detach = upkeep.detach

    def late(one: RecordKind, partition: Any, *given: Any) -> None:
        if partition.name == "portfolios_order_first":
            make_order(portfolio, 50)
        detach(one, partition, *given)

    monkeypatch.setattr(upkeep, "detach", late)
    done = maintain(tmp_path, {}).archived
    assert [one.rows for one in done if one.path.parent.name == "portfolios_order"] == [4]


# --- what stays ---------------------------------------------------------------------------------


def test_rows_of_a_feed_that_is_far_behind_keep_their_own_partition_only(
    portfolio: Portfolio, tmp_path: Path
) -> None:
    attach_partitions()
    first, second, *_ = partitions(kind("equitypoint"))
    points = EquityPoint.objects
    points.create(portfolio=portfolio, seq=second.high - 1, at=OLD, equity=Decimal(1))
    slow = points.create(portfolio=portfolio, seq=3, at=datetime.now(UTC), equity=Decimal(1))
    order_first, order_second, *_ = partitions(kind("order"))
    make_order(portfolio, order_second.high - 1)
    young = datetime.now(UTC) - timedelta(hours=23)  # of the 24 that it is kept
    slow_order = make_order(portfolio, 3, committed_at=young)
    done = maintain(tmp_path, {})
    assert {second.name, order_second.name} <= {*done.dropped}
    assert not {first.name, order_first.name} & {*done.dropped}
    assert [point.seq for point in points.all()] == [slow.seq]
    assert list(Order.objects.all()) == [slow_order]
    # What is archived is said exactly: the row that is kept is missed if it is lost.
    assert archived(portfolio, "order") == [(order_second.high - 1, order_second.high - 1)]


def archived(portfolio: Portfolio, table: str) -> list[tuple[int, int]]:
    rows = ArchivedRange.objects.filter(portfolio=portfolio, kind=f"portfolios_{table}")
    return list(rows.order_by("from_seq").values_list("from_seq", "to_seq"))


def test_archived_neighbouring_partitions_are_recorded_as_one_range(
    portfolio: Portfolio, tmp_path: Path
) -> None:
    attach_partitions()
    _, second, third, *_ = partitions(kind("order"))
    for seq in (5, 7, second.high - 1, third.high - 2):
        make_order(portfolio, seq)
    maintain(tmp_path, {})
    assert archived(portfolio, "order") == [(5, third.high - 2)]
    assert archived(portfolio, "fill") == []


def test_an_open_order_outlives_its_partition_and_is_archived_after_its_end(
    portfolio: Portfolio, tmp_path: Path
) -> None:
    attach_partitions()
    first, second, *_ = partitions(kind("order"))
    make_order(portfolio, 4)
    resting = make_order(portfolio, 5, status="open")
    make_order(portfolio, 6)
    make_order(portfolio, second.high - 1)
    done = maintain(tmp_path, {})
    assert {first.name, second.name} <= {*done.dropped}
    assert sum(one.rows for one in done.archived) == 3
    assert list(Order.objects.all()) == [resting]
    assert place(resting) == "portfolios_order_default"
    assert "partition_missing" not in open_alerts()
    assert maintain(tmp_path, {}).archived == []

    Order.objects.update(status="cancelled", ended_seq=second.high + 1, reason="by hand")
    assert maintain(tmp_path, {}).archived == []  # it leaves with the next partition
    FeedSegment.objects.update(from_time=OLD - timedelta(days=5))
    maintain(tmp_path, {})
    assert not Order.objects.exists()
    (path,) = (tmp_path / "portfolios_order").glob("portfolios_order_rest*")
    (row,) = pq.read_table(path).to_pylist()
    assert (row["id"], row["status"], row["reason"]) == (resting.pk, "cancelled", "by hand")


def test_a_pass_that_was_interrupted_archives_no_open_order(
    portfolio: Portfolio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_order(portfolio, 4)
    resting = make_order(portfolio, 5, status="open")
    monkeypatch.setattr(upkeep, "_drop", lambda *_: None)
    maintain(tmp_path, {})
    Order.objects.update(status="filled")
    monkeypatch.undo()
    maintain(tmp_path, {})
    files = sorted((tmp_path / "portfolios_order").glob("*.parquet"))
    assert [row["id"] for row in pq.read_table(files[0]).to_pylist()] == [f"{portfolio.uid}-4-0"]
    assert len(files) == 1
    assert list(Order.objects.all()) == [resting]


# --- recorded feeds -----------------------------------------------------------------------------


def recorded(head: int, released: datetime) -> FeedRow:
    """Return a recorded feed at a seq, of which the newest ten records are stored."""
    feed = create_feed("fx", [], actor="test")
    us = int(released.timestamp() * 1e6)
    FeedRecord.objects.bulk_create(
        FeedRecord(feed=feed, seq=seq, symbol="", time_us=us, released_us=us, event=b"")
        for seq in range(head - 9, head + 1)
    )
    FeedWriter.objects.filter(feed=feed).update(head=head, first_seq=head - 9)
    return feed


def test_partitions_reach_beyond_the_head_of_a_recorded_feed(portfolio: Portfolio) -> None:
    beyond = head() * 3
    recorded(beyond, OLD)
    order = make_order(portfolio, beyond + 1, committed_at=datetime.now(UTC))
    attach_partitions()
    assert place(order).startswith("portfolios_order_from_")
    assert partitions(kind("order"))[-1].high > beyond + 1_000


def test_partitions_of_low_seqs_are_made_again_for_a_recorded_feed_that_begins_late(
    portfolio: Portfolio, tmp_path: Path
) -> None:
    attach_partitions()
    maintain(tmp_path, {})
    lowest = partitions(kind("order"))[0]
    assert lowest.low is not None and lowest.low > 10_000
    recorded(10, datetime.now(UTC))
    order = make_order(portfolio, 7, committed_at=datetime.now(UTC))
    assert place(order) == "portfolios_order_default"
    attach_partitions()
    assert place(order) == "portfolios_order_from_0"
    assert partitions(kind("order"))[0].high <= lowest.low


def test_a_partition_that_only_a_recorded_feed_has_passed_is_archived(
    portfolio: Portfolio, tmp_path: Path
) -> None:
    replayed = head()
    feed = recorded(replayed * 3, OLD)
    attach_partitions()
    passed = partitions(kind("order"))[-1]
    feed.delete()
    recorded(passed.high + 5, OLD)
    order = make_order(portfolio, passed.high - 1)
    assert passed.high > replayed
    assert passed.name in maintain(tmp_path, {}).dropped
    assert not Order.objects.filter(pk=order.pk).exists()


def test_migration_records_ranges_archived_before_archived_ranges_were_recorded(
    portfolio: Portfolio,
) -> None:
    migration = import_module("portfolios.migrations.0012_archived_ranges")
    attach_partitions()
    Portfolio.objects.update(first_seq=2)
    make_order(portfolio, 50_000)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE portfolios_order DETACH PARTITION portfolios_order_first")
        cursor.execute("DROP TABLE portfolios_order_first")
        for table, seq in migration.TABLES:
            cursor.execute(migration.FILL.format(table=table, seq=seq))
    lowest = partitions(kind("order"))[0].low
    assert lowest is not None
    assert archived(portfolio, "order") == [(2, lowest - 1)]
    assert archived(portfolio, "fill") == []


def test_orders_and_fills_that_a_verification_needs_are_not_archived(
    portfolio: Portfolio, tmp_path: Path
) -> None:
    make_records(portfolio, 3)
    end_first_partition(1.06)
    done = maintain(tmp_path, {portfolio.pk: 6})
    assert Order.objects.count() == Fill.objects.count() == 3
    assert "its portfolios are verified up to seq 6 only" in done.sentence()
    assert not EquityPoint.objects.exists()  # whose age a verification allows for


def end_first_partition(days_ago: float) -> None:
    """Let the feed have left the first partition of the orders that long ago."""
    first_s = partitions(kind("order"))[0].high / RATE
    since = datetime.now(UTC) - timedelta(days=days_ago, seconds=first_s)
    FeedSegment.objects.all().update(from_time=since)


def test_unverified_portfolio_delays_archiving_by_an_eighth_and_then_has_an_alert(
    portfolio: Portfolio, tmp_path: Path
) -> None:
    make_records(portfolio, 3)
    Run.objects.update(last_seq=head())
    end_first_partition(1.2)
    assert "archived_unverified" not in open_alerts()
    done = maintain(tmp_path, {portfolio.pk: 6})
    assert {"portfolios_order_first", "portfolios_fill_first"} <= {*done.dropped}
    assert [one.rows for one in done.archived] == [3, 3, 3]
    assert "archived_unverified" in open_alerts()
    assert "it is verified up to seq " in Alert.objects.get(kind="archived_unverified").reason
    VerificationAnchor.objects.create(
        portfolio=portfolio, seq=head(), epoch=1, state=b"", at=datetime.now(UTC),
        counts={}, open_orders=[], inputs="", sums={},
    )  # fmt: skip
    assert "archived_unverified" not in open_alerts()


def test_alert_of_a_difference_stays_open_when_its_rows_are_archived(portfolio: Portfolio) -> None:
    asked = {"portfolio": portfolio, "requested_at": OLD, "finished_at": OLD, "to_seq": 9}
    Verification.objects.create(state="different", verdict={"rows_dropped": 2}, **asked)
    assert "verification_differs" in open_alerts()
    Verification.objects.create(state="identical", verdict={"rows_dropped": 3}, **asked)
    assert "verification_differs" in open_alerts()
    Verification.objects.create(state="identical", verdict={"rows_dropped": 2}, **asked)
    assert "verification_differs" not in open_alerts()


def test_archive_lock_of_a_frozen_process_expires(tmp_path: Path, settings: Any) -> None:
    settings.GINKGO = replace(settings.GINKGO, archive=tmp_path)
    with psycopg.connect(conninfo(), autocommit=True) as frozen:  # which says no more from here on
        frozen.execute(retention.TAKE_LOCK, ("100ms",))
        deadline = time.monotonic() + 30
        while (done := retention.archive_now()) is None:
            assert time.monotonic() < deadline
    assert done.dropped == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


# --- on a system that trades --------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.slow
def test_a_dump_that_holds_the_table_delays_the_pass_and_no_commit(
    portfolio: Portfolio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitioning, "MAX_ATTEMPTS", 2)
    make_records(portfolio, 3)
    with psycopg.connect(conninfo()) as dump, psycopg.connect(conninfo(), autocommit=True) as web:
        dump.execute("SET idle_in_transaction_session_timeout = 0")
        for table in ("equitypoint", "fill", "order"):
            dump.execute(f"LOCK TABLE portfolios_{table} IN ACCESS SHARE MODE".encode())
        began = time.monotonic()
        done = maintain(tmp_path, {})
        assert done.dropped == []
        assert "another session holds its table" in done.sentence()
        assert time.monotonic() - began < 120
        began = time.monotonic()
        web.execute("UPDATE portfolios_order SET status = 'filled'")
        assert time.monotonic() - began < budget_s(2)  # behind a lock that waits, five seconds


@pytest.mark.django_db(transaction=True)
@pytest.mark.slow
def test_partitions_left_detached_are_archived_and_dropped_once_no_dump_reads_them(
    portfolio: Portfolio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitioning, "MAX_ATTEMPTS", 1)
    make_records(portfolio, 3)
    make_order(portfolio, head() * 9)  # old, and in the default partition
    left = ["portfolios_fill_first", "portfolios_order_rest"]
    with psycopg.connect(conninfo()) as dump, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE portfolios_fill DETACH PARTITION portfolios_fill_first")
        cursor.execute("CREATE TABLE portfolios_order_rest (LIKE portfolios_order)")
        dump.execute("SET idle_in_transaction_session_timeout = 0")
        dump.execute(f"LOCK TABLE {', '.join(left)} IN ACCESS SHARE MODE".encode())
        done = maintain(tmp_path, {})
        assert "portfolios_order_first" in done.dropped
        for table in left:
            assert f"{table} stays: another session holds its table" in done.sentence()
    assert maintain(tmp_path, {}).dropped == left
    assert (tmp_path / "portfolios_fill" / "portfolios_fill_first.parquet").exists()


# --- rows of other tables -----------------------------------------------------------------------


def test_old_lines_of_the_audit_log_go_and_the_history_of_assignments_stays(
    portfolio: Portfolio, settings: Any
) -> None:
    assert Event.objects.filter(kind="granted").exists()
    old = datetime.now(UTC) - timedelta(days=20)
    Event.objects.create(at=old, kind="alert_opened")
    Event.objects.create(at=datetime.now(UTC), kind="alert_opened")
    Event.objects.filter(kind="granted").update(at=old)
    before = Event.objects.count()
    Alert.objects.create(kind="halted", key="fleet", opened_at=old, closed_at=old)
    Alert.objects.create(kind="halted", key="fleet", opened_at=old)
    for seq, settled in ((1, old), (2, None), (3, datetime.now(UTC))):
        its = {"portfolio_number": 1, "epoch": 1, "seq": seq}
        VanishedCommits.objects.create(**its, seen_at=old, settled_at=settled)
    settings.GINKGO = replace(settings.GINKGO, keep_audit_days=10.0)
    assert delete_rows(time.monotonic() + 10) >= 2
    assert Event.objects.count() == before - 1
    assert Event.objects.filter(kind="granted", at=old).exists()
    assert [alert.closed_at for alert in Alert.objects.all()] == [None]
    assert list(VanishedCommits.objects.order_by("seq").values_list("seq", flat=True)) == [2, 3]


def test_every_table_is_named_in_the_retention_document() -> None:
    """A table that is new has to be written into docs/retention.md with its bound or its reason."""
    written = (Path(__file__).parents[3] / "docs" / "retention.md").read_text()
    tables = [name for name in connection.introspection.table_names() if "_first" not in name]
    tables = [name for name in tables if "_default" not in name and "_from_" not in name]
    assert [name for name in tables if f"`{name}`" not in written] == []
