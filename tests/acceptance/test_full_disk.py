"""A database on a full disk: a small file system, filled completely."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos.crashpoints.cluster import FailpointCluster
from chaos.harness.cluster import Cluster
from chaos.harness.installation import eventually

pytestmark = pytest.mark.slow

LEFT_BYTES = 40 << 20  #: of the disk, to be filled


@contextmanager
def small_disk(home: Path) -> Iterator[None]:
    """Let the file system at `home` be little larger than what it holds."""
    before = os.statvfs(home)
    whole = before.f_blocks * before.f_frsize
    resize(home, whole - before.f_bavail * before.f_frsize + LEFT_BYTES)
    try:
        yield
    finally:
        resize(home, whole)


def resize(home: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(home)], check=True)


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
    mortal_cluster: FailpointCluster,
) -> None:
    cluster = mortal_cluster
    eventually(lambda: cluster.call("GET", "/api/readyz").status == 200, what="green")
    with small_disk(cluster.home):
        ballast = fill(cluster.home)
        eventually(lambda: says_why_it_is_red(cluster), what="red, because of the full disk")
        eventually(lambda: is_alert_open(cluster), what="the alert in the metrics")
        seqs = positions(cluster)
        ballast.unlink()
    eventually(lambda: cluster.call("GET", "/api/readyz").status == 200, what="green")
    eventually(lambda: not is_alert_open(cluster), what="the end of the alert")
    eventually(lambda: is_beyond(positions(cluster), seqs), what="commits of every portfolio")
    verdicts = cluster.manage("verify_portfolio", "--all")["results"]
    assert {verdict["state"] for verdict in verdicts} == {"identical"}, verdicts


def says_why_it_is_red(cluster: Cluster) -> bool:
    answer = cluster.call("GET", "/api/readyz")
    return answer.status == 503 and "disk of the database is full" in answer.text


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
