"""The installation of a simulated fleet: `bin/up` without nodes, its tables filled in bulk."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.rows import namedtuple_row

from chaos.harness.cluster import PROCESS_MATCH, Cluster
from chaos.harness.installation import SLOW_MACHINE_S, eventually, temporary_home
from chaos.harness.processes import process_tree
from ginkgo_site.env import embedded_url

CAPACITY = 1.5  #: of a node, per weight it holds at first: a third of the fleet may be lost
MAX_ZONES = 4
SEQ = 1  #: position of the paused feed and of every portfolio

#: Create nodes that have not registered yet.
NODES = """
INSERT INTO scheduling_node (name, cordoned, draining, drain_reason, drain_actor, capacity, labels,
    strategies, feeds, host, version, status, status_since, leaving, lost_times, desired_version)
SELECT 'node-' || lpad(g::text, 5, '0'), false, false, '', '', 1, '{}', '{}', '{}', '', '', 'new',
       now(), false, '[]', 0
FROM generate_series(0, %(nodes)s::int - 1) g ORDER BY g RETURNING id, name
"""

#: Create portfolios that run on the registered nodes, evenly spread. The k-th portfolio is the same
#: on every node, so that loads are even at first: one in ten has weight 2, one in eight selects the
#: zone of its node, one in sixteen is in a spread pair.
PORTFOLIOS = """
WITH place AS (
    SELECT g, g / %(nodes)s::int AS k, g %% %(nodes)s::int AS n, x.id AS node, l.incarnation
    FROM generate_series(0, %(portfolios)s::int - 1) g
    JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM scheduling_node) x
        ON x.n = g %% %(nodes)s::int
    JOIN scheduling_lease l ON l.node_id = x.id
), made AS (
    INSERT INTO portfolios_portfolio (uid, name, weight, priority, selector, spread_group,
        spread_hard, desired_state, catch_up, revision, feed_id, first_seq, starting_cash,
        created_at)
    SELECT gen_random_uuid(), 'p-' || lpad(g::text, 7, '0'),
           CASE WHEN k %% 10 = 0 THEN 2 ELSE 1 END, 0,
           CASE WHEN k %% 8 = 1 THEN jsonb_build_object('zone', 'z' || n %% %(zones)s::int)
                   ELSE '{}' END,
           CASE WHEN k %% 16 = 2 THEN 'pair-' || k || '-' || n / 2 ELSE '' END,
           false, 'running', 'state_only', 1, (SELECT min(id) FROM portfolios_feed), 1, 100000,
           now()
    FROM place ORDER BY g RETURNING id, name
), revised AS (
    INSERT INTO portfolios_revision (portfolio_id, number, strategy, strategy_version, config,
        symbols, limits, status, status_reason, note, created_by, created_at)
    SELECT id, 1, 'canary', %(version)s, '{}', '["*"]', '{}', 'good', '', '', 'bench', now()
    FROM made
), run AS (
    INSERT INTO scheduling_run (portfolio_id, node_id, incarnation, epoch, revision, granted_at,
        last_seq, state_seq, first_commit_at, last_commit_at, phase, phase_since, reason, attempts,
        failures_by_node, good_revision)
    SELECT m.id, p.node, p.incarnation, 1, 1, now(), %(seq)s, %(seq)s, now(), now(), 'running',
           now(), '', 0, '{}', 1
    FROM made m JOIN place p ON m.name = 'p-' || lpad(p.g::text, 7, '0')
)
INSERT INTO scheduling_tenure (portfolio_id, epoch, node_id, incarnation, revision, from_seq, cause,
    reason, started_at, first_commit_at)
SELECT m.id, 1, p.node, p.incarnation, 1, %(seq)s, 'place', '', now(), now()
FROM made m JOIN place p ON m.name = 'p-' || lpad(p.g::text, 7, '0')
"""

BUMP_DESIRED_VERSIONS = """
UPDATE scheduling_node SET desired_version = desired_version + 1
WHERE name = ANY(%(names)s::text[])
"""


def zone_count(nodes: int) -> int:
    """Return the number of zones: MAX_ZONES, or fewer so that each has five nodes or more."""
    return max(1, min(MAX_ZONES, nodes // 5))


class FleetInstallation(Cluster):
    """An installation whose nodes are simulated.

    Without `feed_rate` its feed is paused, so no portfolio is stale.
    """

    def __init__(self, home: Path, feed_rate: int = 0) -> None:
        # One event in 100 s: the feed is paused before its second event.
        super().__init__(home, "--nodes", "0", "--no-demo", GINKGO_FEED_RATE=str(feed_rate or 0.01))
        self._is_paused = not feed_rate

    def start(self, limit_s: float = 3 * SLOW_MACHINE_S) -> float:
        """Start, pause the feed, and let Django in this process use the same database."""
        took_s = super().start(limit_s)
        if self._is_paused:
            self.query("UPDATE portfolios_feedsegment SET rate = 0")
        os.environ |= {
            "DATABASE_URL": embedded_url(self.home),
            "GINKGO_HOME": str(self.home),
            "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings",
        }
        import django

        django.setup()
        return took_s

    def restart_web(self) -> None:
        """Kill the web process, and wait until the launcher's new one answers."""
        killed = self.process_of(PROCESS_MATCH["web"])
        killed.kill()
        killed.wait()
        eventually(self.is_ready, what="the web process answers")

    # --- tables ----------------------------------------------------------------------------------

    def connection(self) -> psycopg.Connection[Any]:
        """Return a new connection, in autocommit."""
        return psycopg.connect(embedded_url(self.home), autocommit=True, row_factory=namedtuple_row)

    def create_nodes(self, count: int) -> list[tuple[str, str]]:
        """Create nodes that have not registered. Return the name and token of each."""
        from scheduling.models import NodeToken
        from scheduling.models.tokens import hash_token, new_token

        with self.connection() as db:
            rows = db.execute(NODES, {"nodes": count}).fetchall()
        tokens = [new_token() for _ in rows]
        NodeToken.objects.bulk_create(
            NodeToken(node_id=row.id, sha256=hash_token(token), created_by="bench")
            for row, token in zip(rows, tokens, strict=True)
        )
        return [(row.name, token) for row, token in zip(rows, tokens, strict=True)]

    def load_portfolios(self, count: int, nodes: int) -> dict[str, dict[int, int]]:
        """Create portfolios that run, evenly spread, on the registered nodes.

        Return node name → portfolio id → seq.
        """
        from portfolios.strategies import registry

        with self.connection() as db:
            db.execute(
                PORTFOLIOS,
                {
                    "portfolios": count,
                    "nodes": nodes,
                    "zones": zone_count(nodes),
                    "seq": SEQ,
                    "version": registry.versions()["canary"],
                },
            )
            db.execute("VACUUM ANALYZE")
            rows = db.execute(
                "SELECT n.name, r.portfolio_id FROM scheduling_run r"
                " JOIN scheduling_node n ON n.id = r.node_id"
            ).fetchall()
        held: dict[str, dict[int, int]] = {}
        for row in rows:
            held.setdefault(row.name, {})[row.portfolio_id] = SEQ
        return held

    def bump_desired_versions(self, names: list[str]) -> None:
        """Raise the desired-set versions of nodes, so that their next heartbeats return the set."""
        with self.connection() as db:
            db.execute(BUMP_DESIRED_VERSIONS, {"names": names})

    # --- resources -------------------------------------------------------------------------------

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds each part has used so far; `nodes` is this process."""
        parts = {part: self._processes(part) for part in ("web", "watcher")}
        parts |= {"postgres": self.postgres_processes(), "nodes": [psutil.Process()]}
        return {name: sum(map(_cpu_s, processes)) for name, processes in parts.items()}

    def rss_mb(self, part: str) -> float:
        """Return the resident memory of a part in MB."""
        return self._processes(part)[0].memory_info().rss / 1e6

    def _processes(self, part: str) -> list[psutil.Process]:
        return process_tree(self.process_of(PROCESS_MATCH[part]))


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


@contextmanager
def fleet_installation(feed_rate: int = 0) -> Iterator[FleetInstallation]:
    """Start an installation; end and delete it afterwards."""
    # Each simulated node keeps a websocket and one or two HTTP connections open, and each takes a
    # file descriptor here and one in the web process.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with temporary_home() as home:
        installation = FleetInstallation(home, feed_rate)
        try:
            installation.start()
            yield installation
        finally:
            installation.kill_everything()
