"""A database on a full disk: a small file system, filled completely."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos.harness.cluster import SHORT_LIMITS, Cluster
from chaos.harness.installation import eventually, temporary_home

pytestmark = pytest.mark.slow

SIZE_MB = 300


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """Mount a file system of SIZE_MB as the home."""
    with ExitStack() as open_:
        home = open_.enter_context(temporary_home())
        options = ["-o", f"size={SIZE_MB}m,mode=755"]
        subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(home)], check=True)
        open_.callback(subprocess.run, ["umount", "-l", str(home)], check=True)
        yield home


def fill(home: Path) -> Path:
    """Fill the disk, and return the file that fills it."""
    ballast = home / "ballast"
    with ballast.open("wb") as file:
        while (left := os.statvfs(home).f_bavail * os.statvfs(home).f_frsize) > 0:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, left)
            except OSError:
                continue  # the database took some of it first
    return ballast


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_full_disk_opens_an_alert_turns_readiness_red_and_loses_no_event(
    small_disk: Path,
) -> None:
    cluster = Cluster(small_disk, **SHORT_LIMITS)
    try:
        cluster.start()
        assert cluster.call("GET", "/api/readyz").status == 200
        ballast = fill(small_disk)
        eventually(lambda: cluster.call("GET", "/api/readyz").status == 503, what="red")
        assert "disk of the database is full" in cluster.call("GET", "/api/readyz").text
        eventually(lambda: is_alert_open(cluster), what="the alert in the metrics")
        seqs = positions(cluster)
        ballast.unlink()
        eventually(lambda: cluster.call("GET", "/api/readyz").status == 200, what="green")
        eventually(lambda: not is_alert_open(cluster), what="the end of the alert")
        eventually(lambda: is_beyond(positions(cluster), seqs), what="commits of every portfolio")
        verdicts = cluster.manage("verify_portfolio", "--all")["results"]
        assert {verdict["state"] for verdict in verdicts} == {"identical"}, verdicts
    finally:
        cluster.kill_everything()


def is_alert_open(cluster: Cluster) -> bool:
    """Return whether the metrics show the open alert."""
    return 'ginkgo_alerts_open{kind="disk_full"} 1.0' in cluster.call("GET", "/api/metrics").text


def positions(cluster: Cluster) -> dict[int, int]:
    """Return the last seq of each portfolio."""
    return dict(cluster.query("SELECT portfolio_id, last_seq FROM scheduling_run"))  # type: ignore[arg-type]


def is_beyond(now: dict[int, int], before: dict[int, int]) -> bool:
    """Return whether every portfolio has committed since, after asserting that none went back."""
    assert all(now[one] >= before[one] for one in before)
    return all(now[one] > before[one] for one in before)
