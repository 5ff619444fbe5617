"""Samples of database size and disk space, their metrics and their alerts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from ginkgo_site.database import conninfo
from portfolios.models import EquityPoint
from scheduling.db.transaction import execute
from scheduling.enact import storage
from scheduling.enact.alerts import update_alerts
from scheduling.enact.storage import sample_storage
from scheduling.models import Alert, StorageSample
from scheduling.timing import timing
from tests.support.api_client import ApiClient
from tests.support.factories import ago, make_node, make_trader

pytestmark = pytest.mark.django_db


def reasons(kind: str) -> list[str]:
    execute(update_alerts(timing()))
    return list(Alert.objects.filter(kind=kind, closed_at=None).values_list("reason", flat=True))


def test_a_snapshot_that_is_held_is_named_by_pid_and_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(storage.LIMITS, "snapshot_limit_s", 0.0)
    assert not Alert.objects.exists()  # begins a transaction, which is older than the next
    with psycopg.connect(conninfo(), application_name="pg_dump") as dump:
        dump.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        dump.execute("SELECT 1 FROM scheduling_run")
        (told,) = reasons("snapshot_held")
        assert f"pid {dump.info.backend_pid} (pg_dump, user " in told
        assert f"pg_terminate_backend({dump.info.backend_pid})" in told


def test_short_transaction_opens_no_alert() -> None:
    with psycopg.connect(conninfo()) as session:
        session.execute("SELECT 1 FROM scheduling_run")
        assert reasons("snapshot_held") == []


def test_records_without_a_partition_have_an_alert() -> None:
    hand = make_trader("p", make_node("node-1"), events=0)
    assert reasons("partition_missing") == []
    beyond = {"portfolio": hand.portfolio, "seq": 10**15, "at": datetime.now(UTC)}
    point = EquityPoint.objects.create(**beyond, equity=1)
    (told,) = reasons("partition_missing")
    assert "portfolios_equitypoint_default" in told
    point.delete()
    assert reasons("partition_missing") == []


def make_sample(hours_ago: float, size: int, free: int | None, **tables: int) -> None:
    sizes = {"database_bytes": size, "wal_bytes": 0, "disk_free_bytes": free, "tables": tables}
    StorageSample.objects.create(at=ago(hours_ago * 3600), **sizes)


def test_growth_alert_names_the_largest_table() -> None:
    make_sample(48, 10 << 30, 100 << 30, orders=1 << 30, fills=8 << 30)
    make_sample(0, 30 << 30, 100 << 30, orders=19 << 30, fills=10 << 30)
    (told,) = reasons("table_growth")
    assert "grows by 10 GB a day, most of it orders, and its disk has 100 GB free" in told
    assert "full in 10.0 days" in told


@pytest.mark.parametrize(
    ("hours", "growth", "free"),
    [(5, 20 << 30, 10 << 30), (48, 1 << 30, 100 << 30), (48, 20 << 30, None)],
)
def test_slow_or_unknown_growth_opens_no_alert(hours: float, growth: int, free: int | None) -> None:
    make_sample(hours, 10 << 30, free)
    make_sample(0, (10 << 30) + growth, free)
    assert reasons("table_growth") == []


def test_sample_counts_partitions_and_old_samples_are_deleted() -> None:
    make_sample(24 * 40, 1, None)
    execute(sample_storage(5))
    (sample,) = StorageSample.objects.all()
    assert sample.disk_free_bytes == 5
    assert sample.tables["portfolios_order"] > 0
    assert not any("default" in name or "first" in name for name in sample.tables)


def test_prometheus_metrics_show_database_and_table_sizes(viewer: ApiClient) -> None:
    text: Any = viewer.get("metrics").content.decode()
    assert 'ginkgo_table_bytes{table="portfolios_order"}' in text
    for figure in ("wal_written_bytes_total", "database_bytes", "oldest_snapshot_seconds"):
        assert f"ginkgo_{figure}" in text
