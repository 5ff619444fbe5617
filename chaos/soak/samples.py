"""Sample an installation: memory, descriptors, connections, tables, WAL, and the age of commits."""

from __future__ import annotations

import json
import os
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import psycopg

from chaos.runner.topology import Topology
from portfolios.feeds.clock import Segment, release_clock

#: Word on the command line → role; the first match counts.
ROLES = (
    ("ginkgo_site.asgi:application", "web"),
    ("run_watcher", "watcher"),
    ("qcluster", "worker"),
    ("archive_records", "archiving"),
    ("run_verifications", "verification"),
)

#: Each table: its size in bytes, with all partitions, and the number of partitions.
TABLES = """
SELECT regexp_replace(c.relname, '_(first|default|from_[0-9]+)$', '') AS name,
       sum(pg_total_relation_size(c.oid))::bigint, count(*)
FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace GROUP BY 1
"""
#: WAL written so far in bytes, connections, age of the oldest snapshot in transactions, size of the
#: database in bytes, open alerts.
FACTS = """
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       (SELECT coalesce(max(age(backend_xmin)), 0) FROM pg_stat_activity),
       pg_database_size(current_database()), (SELECT count(*) FROM scheduling_alert
                                              WHERE closed_at IS NULL)
"""
#: Feed, seq and time of the newest commit of each portfolio that has committed lately.
COMMITS = """
SELECT p.feed_id, r.last_seq, (extract(epoch FROM r.last_commit_at) * 1e6)::bigint
FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
WHERE r.phase = 'running' AND r.last_commit_at > clock_timestamp() - interval '2 s'
"""
#: The segments of every feed: they give the release time of an event.
SEGMENTS = """
SELECT feed_id, from_seq, (extract(epoch FROM from_time) * 1e6)::bigint, rate
FROM portfolios_feedsegment ORDER BY id
"""


class Sampler:
    """Take a sample every `every_s` in a thread, and append it to a file.

    `url` returns the URL of the database, whose server exists only once the run has begun.
    """

    def __init__(
        self, topology: Topology, url: Callable[[], str], file: Path, every_s: float
    ) -> None:
        self._topology, self._url, self._file, self._every_s = topology, url, file, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._began_s = 0.0
        self.samples: list[dict[str, Any]] = []

    def start(self, began_s: float) -> None:
        """Start. Times are reported in seconds since `began_s`."""
        self._began_s = began_s
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling, also if it was never started."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(30)  # its last sample may wait for a slow database

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            sample: dict[str, Any] = {"at_s": round(time.monotonic() - self._began_s, 1)}
            sample["load"] = round(os.getloadavg()[0], 2)
            sample["processes"] = processes(self._topology)
            try:
                sample.update(self._from_database())
            except psycopg.Error as error:  # during a fault: the next sample may succeed
                sample["database"] = (str(error) or type(error).__name__).splitlines()[0]
            self.samples.append(sample)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(sample) + "\n")

    def _from_database(self) -> dict[str, Any]:
        """Return the part of a sample that needs the database."""
        with psycopg.connect(self._url(), autocommit=True, connect_timeout=5) as db:
            ((wal, connections, oldest, size, alerts),) = db.execute(FACTS.encode())
            tables = db.execute(TABLES.encode()).fetchall()
            segments: dict[int, list[Segment]] = {}
            for feed, seq, at_us, rate in db.execute(SEGMENTS.encode()):
                segments.setdefault(feed, []).append(Segment(seq, at_us, rate))
            commits = db.execute(COMMITS.encode()).fetchall()
        ages_ms = sorted(
            (at_us - release_clock(segments[feed])(seq)) / 1000 for feed, seq, at_us in commits
        )
        home = self._topology.cluster.home
        return {
            "wal_written": wal,
            "wal_files": folder_size(home / "postgres" / "data" / "pg_wal"),
            "archive": folder_size(home / "archive"),
            "logs": folder_size(home / "logs"),
            "connections": connections,
            "oldest_snapshot": oldest,
            "database": size,
            "alerts": alerts,
            "tables": {name: bytes_ for name, bytes_, _ in tables},
            "partitions": sum(count for name, _, count in tables if name in PARTITIONED),
            "age_p50_ms": round(statistics.median(ages_ms), 1) if ages_ms else None,
            "age_worst_ms": round(ages_ms[-1], 1) if ages_ms else None,
        }


PARTITIONED = ("portfolios_order", "portfolios_fill", "portfolios_equitypoint")


def processes(topology: Topology) -> dict[str, dict[str, float]]:
    """Return role → `processes`, `mb` and `fds`: their number, unique memory, and descriptors."""
    found: dict[str, dict[str, float]] = {}
    for role, process in _with_roles(topology):
        try:
            memory = process.memory_full_info().uss / 1e6
            descriptors = process.num_fds()
        except (psutil.Error, OSError):
            continue  # it has just ended
        line = found.setdefault(role, {"processes": 0, "mb": 0.0, "fds": 0})
        line["processes"] += 1
        line["mb"] = round(line["mb"] + memory, 1)
        line["fds"] += descriptors
    return found


def _with_roles(topology: Topology) -> Iterable[tuple[str, psutil.Process]]:
    """Yield every process of the installation with its role."""
    cluster = topology.cluster
    try:
        for number, process in enumerate(cluster.postgres_processes()):
            yield ("postgres server" if number == 0 else "postgres backends"), process
    except (psutil.Error, OSError, ValueError):
        pass  # the server is down
    if cluster.process is not None and cluster.process.poll() is None:
        yield "launcher", psutil.Process(cluster.process.pid)
    for process in cluster.processes():
        try:
            yield _role(process), process
        except psutil.Error:
            continue


def _role(process: psutil.Process) -> str:
    """Return the role of a process outside of PostgreSQL and launcher, by its command line."""
    line = " ".join(process.cmdline())
    for words, role in ROLES:
        if words in line:
            return role
    if re.search(r"scheduling\.node_daemon( |$)", line):
        return "daemons"
    return "portfolio processes"


def folder_size(folder: Path) -> int:
    """Return the bytes of the files in a folder, 0 if it does not exist."""
    total = 0
    for path in folder.glob("**/*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # it has just been deleted
    return total
