"""A full disk: commits are refused and repeated, readiness is red, one alert is open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection
from psycopg.errors import DiskFull

from scheduling.db import disk_space
from scheduling.db.disk_space import DiskSpace, low_space_reason
from scheduling.db.transaction import execute
from scheduling.enact.storage import record_disk_space
from scheduling.gateway import auth
from scheduling.gateway.health import Health
from scheduling.models import Alert
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.permissions import Role
from scheduling.scheduler import Scheduler
from scheduling.wire.messages import encode
from tests.support.alerts import open_alerts
from tests.support.api_client import ApiClient
from tests.support.factories import make_node, make_trader
from tests.support.gateway_requests import admitted_node, ask, commit_request, serve
from tests.support.pages import signed_in

pytestmark = pytest.mark.django_db(transaction=True)

FULL = "could not extend file: No space left on device"


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> DiskSpace:
    auth._cache.clear()
    fresh = DiskSpace()
    monkeypatch.setattr("scheduling.gateway.app.DISK_SPACE", fresh)
    monkeypatch.setattr("scheduling.gateway.health.DISK_SPACE", fresh)
    monkeypatch.setattr("scheduling.observe.fleet_view.read.DISK_SPACE", fresh)
    return fresh


@contextmanager
def full_disk(write: str) -> Iterator[None]:
    """Let PostgreSQL refuse such writes, as it does where it cannot extend a file."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION pg_temp_full() RETURNS trigger LANGUAGE plpgsql AS $$"
            f"BEGIN RAISE EXCEPTION '{FULL}' USING ERRCODE = '53100'; END $$"
        )
        cursor.execute(
            f"CREATE TRIGGER disk_is_full BEFORE {write}"
            " FOR EACH ROW EXECUTE FUNCTION pg_temp_full()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION pg_temp_full() CASCADE")


def record(state: DiskSpace, folder: Path | None) -> None:
    state.check(folder)
    execute(record_disk_space(state))


def test_commits_are_refused_readiness_is_red_and_an_alert_opens_until_there_is_room(
    state: DiskSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = admitted_node("node-1")
    body = encode(commit_request(node, make_trader("p", node).next_commit(1)))
    health = Health()
    health.set_open(True)
    health.liveness.succeed()
    health.write.succeed()
    with full_disk("UPDATE OF last_seq ON scheduling_run"):
        status, answer = serve(lambda: ask("commit/", body))
        assert (status, answer["code"]) == (503, "unavailable")  # the daemon repeats it
        assert "disk is full" in answer["message"]
        assert health.problem() == f"The disk of the database is full, commits are refused: {FULL}."
        record(state, None)
        assert list(open_alerts()) == ["disk_full"]
        assert "commits are refused" in Alert.objects.get().reason
    status, answer = serve(lambda: ask("commit/", body))
    assert (status, answer["results"][0]["answer"]) == (200, "ok")
    assert health.problem() != ""  # some commits find room on a full disk
    monkeypatch.setattr(disk_space, "FORGET_AFTER_S", 0.0)
    assert health.problem() == ""
    record(state, None)
    assert open_alerts() == {}


def test_a_disk_that_is_nearly_full_is_an_alert_before_commits_are_refused(
    state: DiskSpace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record(state, tmp_path)
    assert open_alerts() == {}
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(disk_space, "MIN_FREE_BYTES", 2 * free)
    monkeypatch.setattr(disk_space, "MIN_FREE_SHARE_OF_SMALL", 1.0)
    assert "MB free" in low_space_reason(tmp_path)
    record(state, tmp_path)
    assert list(open_alerts()) == ["disk_full"]
    assert state.problem() == ""  # commits still work
    monkeypatch.setattr(disk_space, "WAL_SEGMENT_BYTES", 2 * free)
    assert "The disk of the database is full" in state.problem()
    assert low_space_reason(Path("/nowhere")) == ""


def test_an_alert_that_cannot_be_written_is_on_the_board_and_in_the_metrics(
    state: DiskSpace, viewer: ApiClient
) -> None:
    """The disk was filled at once, before anything could be written about it."""
    make_node("node-1")
    page = signed_in(Role.VIEWER, "vito")
    with full_disk("INSERT ON scheduling_event"):
        state.note_refused(DiskFull())
        record(state, None)
        Scheduler("watcher").raise_alerts()
        assert not Alert.objects.exists()
        (line,) = read_fleet_view().alerts
        assert (line.kind, line.portfolio, line.node) == ("disk_full", None, None)
        assert "commits are refused" in line.reason
        assert "the disk is full or nearly full" in page.get("/").content.decode()
        assert 'ginkgo_alerts_open{kind="disk_full"} 1.0' in viewer.get("metrics").content.decode()
    Scheduler("watcher").raise_alerts()
    assert [line.id for line in read_fleet_view().alerts] == [Alert.objects.get().pk]


@pytest.mark.parametrize(
    ("size", "free", "told"),
    [
        (300 << 20, 70 << 20, False), (300 << 20, 50 << 20, True), (10 << 30, 900 << 20, True),
        (10 << 30, 1100 << 20, False), (1 << 40, 50 << 30, True), (1 << 40, 60 << 30, False),
    ],
)  # fmt: skip
def test_low_space_is_reported_while_an_alert_can_still_be_written(
    monkeypatch: pytest.MonkeyPatch, size: int, free: int, told: bool
) -> None:
    left = free // 4096
    found = os.statvfs_result((4096, 4096, size // 4096, left, left, 0, 0, 0, 0, 255))
    monkeypatch.setattr(disk_space.os, "statvfs", lambda _folder: found)
    assert bool(low_space_reason(Path("/"))) is told
