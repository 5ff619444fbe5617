"""The house of a simulated fleet: PostgreSQL, one web process and one watcher, as bin/up starts
them, with tables filled in bulk. All of it is gone when the block ends, Ctrl-C included.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.rows import namedtuple_row

from ginkgo_site.env import CHECKOUT
from ginkgo_site.launcher.address import Address, free_address
from ginkgo_site.launcher.postgres import EmbeddedPostgres
from ginkgo_site.launcher.spawn import spawn
from ginkgo_site.launcher.web import GUARDED

CAPACITY = 1.5  #: of what a node holds at first: a third of the fleet may go
MAX_ZONES = 4
SEQ = 1  #: where the feed stands, and with it every portfolio

NODES = """
INSERT INTO scheduling_node (name, cordoned, draining, drain_reason, drain_actor, capacity, labels,
    strategies, feeds, host, version, status, status_since, leaving, lost_times, desired_version)
SELECT 'node-' || lpad(g::text, 5, '0'), false, false, '', '', 1, '{}', '{}', '{}', '', '', 'new',
       now(), false, '[]', 0
FROM generate_series(0, %(nodes)s::int - 1) g ORDER BY g RETURNING id, name
"""

#: The k-th portfolio of every node is alike, so that loads begin even: one in ten is twice as
#: heavy, one in eight asks for the zone of its node, one in sixteen is one of a pair on two nodes.
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

TOUCH = """
UPDATE scheduling_node SET desired_version = desired_version + 1
WHERE name = ANY(%(names)s::text[])
"""


def zones(nodes: int) -> int:
    """Return how many zones a fleet has: each is left with nodes when some of them are lost."""
    return max(1, min(MAX_ZONES, nodes // 5))


class FleetHouse:
    """What answers the simulated nodes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.address: Address = free_address("127.0.0.1", 0)
        self.server = EmbeddedPostgres(home)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start_database(self) -> None:
        """Start PostgreSQL, migrate, and make a feed that stands still: nothing is ever stale."""
        self.server.prepare()
        self.server.start()
        self.server.wait_until_ready()
        os.environ |= {
            "DATABASE_URL": self.server.url,
            "GINKGO_HOME": str(self.home / "home"),
            "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings",
        }
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        from portfolios.feed_registration import ensure_feed

        ensure_feed(0.0)

    def start(self, name: str, *argv: str) -> None:
        """Start one of our own processes; its log is NAME.log."""
        with open(self.log(name), "ab") as output:
            self._children[name] = spawn(
                [sys.executable, *argv],
                environment=os.environ | {"PYTHONPATH": str(CHECKOUT)},
                output=output,
                folder=CHECKOUT,
                death_signal=signal.SIGKILL,
            )

    def start_web(self) -> None:
        """Start the web process as bin/up does, and wait until it answers."""
        web = ["-m", "uvicorn", "ginkgo_site.asgi:application"]
        web += ["--host", self.address.host, "--port", str(self.address.port)]
        web += ["--lifespan", "on", "--timeout-graceful-shutdown", "10", *GUARDED]
        self.start("web", *web, "--no-access-log", "--no-server-header", "--log-level", "warning")
        deadline = time.monotonic() + 60
        while not self.address.answers():
            if time.monotonic() > deadline or self._children["web"].poll() is not None:
                raise SystemExit(f"the web process does not answer: {self.log('web').read_text()}")
            time.sleep(0.05)

    def restart_web(self) -> None:
        """Kill the web process and start another at the same address."""
        self._children["web"].kill()
        self._children["web"].wait()
        self.start_web()

    def start_watcher(self) -> None:
        """Start the watcher."""
        self.start("watcher", str(CHECKOUT / "manage.py"), "run_watcher")

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.home / f"{name}.log"

    def stop(self) -> None:
        """End every process."""
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.server.stop()

    # --- tables ----------------------------------------------------------------------------------

    def connection(self) -> psycopg.Connection[Any]:
        """Return a connection of its own, in autocommit."""
        return psycopg.connect(self.server.url, autocommit=True, row_factory=namedtuple_row)

    def create_nodes(self, count: int) -> list[tuple[str, str]]:
        """Create nodes that have not registered. Return name and token of each."""
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
        """Create portfolios that have long run on the registered nodes, evenly.

        Return node name → portfolio id → seq.
        """
        from portfolios.strategies import registry

        with self.connection() as db:
            db.execute(
                PORTFOLIOS,
                {
                    "portfolios": count,
                    "nodes": nodes,
                    "zones": zones(nodes),
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

    def touch(self, names: list[str]) -> None:
        """Let these nodes hear of their sets with their next beats."""
        with self.connection() as db:
            db.execute(TOUCH, {"names": names})

    # --- what they cost --------------------------------------------------------------------------

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds that each part has used so far; `nodes` is this process."""
        assert self.server.process is not None
        parts = {name: psutil.Process(child.pid) for name, child in self._children.items()}
        parts |= {"postgres": psutil.Process(self.server.process.pid), "nodes": psutil.Process()}
        return {
            name: sum(
                _cpu_s(each)
                for each in [part, *(part.children(recursive=True) if name != "nodes" else ())]
            )
            for name, part in parts.items()
        }

    def rss_mb(self, name: str) -> float:
        """Return the resident memory of one of our own processes in MB."""
        return psutil.Process(self._children[name].pid).memory_info().rss / 1e6


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


@contextmanager
def a_house() -> Iterator[FleetHouse]:
    """Yield a house without processes; end whatever was started in it, and delete it."""
    # A node has a websocket and a connection or two, at either end.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    home = Path(tempfile.mkdtemp(prefix="ginkgo-fleet-"))
    home.chmod(0o755)
    house = FleetHouse(home)
    try:
        yield house
    finally:
        house.stop()
        if os.environ.get("GINKGO_KEEP_HOMES"):
            print(f"kept: {home}", file=sys.stderr)
        else:
            shutil.rmtree(home, ignore_errors=True)
