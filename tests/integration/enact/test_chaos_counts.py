"""The counts of exits and held snapshots that `bin/chaos` reads equal what the product wrote."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import connection

from chaos.checkers.blast_radius import BlastRadius
from chaos.faults import exits, locks
from chaos.harness.observation import ClusterRun
from chaos.runner.fault_context import FaultContext
from chaos.runner.topology import SHORT_TIMES, Topology
from ginkgo_site.database import conninfo
from scheduling.wire.messages import Heartbeat, ProcessExited, ProcessStatus
from tests.support.factories import OwnerSession

pytestmark = pytest.mark.django_db


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultContext:
    """A fault's context whose installation is the database of the tests."""

    def query(sql: str, *parameters: int | str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())

    topology = Topology(tmp_path, SHORT_TIMES)
    cluster = SimpleNamespace(query=query, connect_monitor=lambda: psycopg.connect(conninfo()))
    monkeypatch.setattr(topology, "cluster", cluster)
    ended = threading.Event()
    return FaultContext(topology, random.Random(0), BlastRadius(), ended, lambda *_: None)


@pytest.mark.parametrize("is_idle", [False, True])
def test_repeated_exit_reports_cause_no_miscount_of_exits(
    context: FaultContext, hand: OwnerSession, is_idle: bool
) -> None:
    before = exits.read_exit_counts(context, "p")
    first, second = hand.death(idle=is_idle), hand.death(idle=is_idle)
    hand.report_death(first)
    assert exits.read_exit_counts(context, "p").last_death == first.death
    assert hand.commit(1) == "ok"
    for death in (second, first, second, first, second):
        hand.report_death(death)
    assert exits.miscounts(before, exits.read_exit_counts(context, "p"), exits=2) == []


def test_repeated_heartbeat_contains_the_last_metrics_and_processes_of_the_daemon(
    context: FaultContext, hand: OwnerSession
) -> None:
    its: dict[str, Any] = {"portfolio": hand.portfolio.pk, "epoch": 3, "revision": 1}
    process = ProcessStatus(**its, phase="running", seq=9, lag=0, pid=42)
    told: dict[str, Any] = {"metrics": {"cpu_pct": 12.5}, "portfolios": [process]}
    who = str(hand.daemon.incarnation)
    said = Heartbeat(incarnation=who, have_version=10**9, reports=[hand.death()], **told)
    hand.daemon.beat(**told)
    run = ClusterRun("p", hand.daemon.name, said.incarnation, 3, 1, 9, "running", "", None)
    (death,) = said.reports
    assert isinstance(death, ProcessExited)
    assert exits.repeated_heartbeat(context, run, death) == said


def test_idle_exits_that_share_an_audit_line_cause_no_miscount(
    context: FaultContext, hand: OwnerSession
) -> None:
    before = exits.read_exit_counts(context, "p")
    for _ in range(12):
        hand.die(idle=True)
    assert exits.miscounts(before, exits.read_exit_counts(context, "p"), exits=12) == []


def test_alert_names_the_session_that_holds_a_database_snapshot_only_while_it_is_open(
    context: FaultContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SNAPSHOT_LIMIT_S", 0.0)
    with psycopg.connect(conninfo(), application_name=locks.DUMP) as dump:
        dump.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        dump.execute("SELECT count(*) FROM scheduling_run")
        pid = dump.info.backend_pid
        assert locks.is_named(pid, locks.read_snapshot_causes(context))
    assert not locks.is_named(pid, locks.read_snapshot_causes(context))
