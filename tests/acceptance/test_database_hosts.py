"""An installation on two PostgreSQL servers, of which the primary stops answering."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos.harness.cluster import SHORT_LIMITS, Cluster
from chaos.harness.installation import budget_s, eventually, temporary_home
from chaos.harness.observation import wait_for
from chaos.harness.tcp_proxy import TcpProxy
from tests.acceptance.conftest import SharedInstallations
from tests.support.postgres_pair import Pair, Server, postgres_pair
from tests.support.python_process import run_python
from tests.support.undisturbed import starved_nodes

pytestmark = pytest.mark.slow

#: From the new primary's first answer to the first commit of every portfolio.
COMMITS_WITHIN_S = 2.5
#: From the new primary's first answer to green readiness.
READY_WITHIN_S = 2.2


class Hosts:
    """An installation whose database has two hosts, and the servers behind them: by default the
    first host is the primary and the second the standby, also after a promotion."""

    def __init__(self, pair: Pair, home: Path, proxies: tuple[TcpProxy, TcpProxy]) -> None:
        self.pair = pair
        self.first, self._second = proxies
        ports = (int(proxy.url.rpartition(":")[2]) for proxy in proxies)
        self._url = pair.url(*ports)
        self.cluster = Cluster(home, **SHORT_LIMITS, DATABASE_URL=self._url)
        self._is_used = False

    def renew(self, stack: ExitStack) -> None:
        """Return to a primary with a streaming standby, and to a converged installation."""
        if self._is_used:
            self.pair.renew()
        self._is_used = True
        for proxy, server in ((self.first, self.pair.primary), (self._second, self.pair.standby)):
            stack.enter_context(proxy.redirect_to(address(server)))
        self.cluster.follow_database(self._url)
        self.cluster.wait_until_converged()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def started(shared_installations: SharedInstallations) -> Iterator[Hosts]:
    shared_installations.close()
    with ExitStack() as stack:
        pair = stack.enter_context(postgres_pair())
        first = stack.enter_context(TcpProxy(address(pair.primary)).open())
        second = stack.enter_context(TcpProxy(address(pair.standby)).open())
        hosts = Hosts(pair, stack.enter_context(temporary_home()), (first, second))
        stack.callback(hosts.cluster.kill_everything)
        hosts.cluster.start()
        yield hosts


@pytest.fixture
def hosts(started: Hosts) -> Iterator[Hosts]:
    with ExitStack() as stack:
        started.renew(stack)
        yield started


def positions(server: Server) -> dict[str, int]:
    """Return the last seq of each portfolio, read from one server."""
    with server.session("ginkgo") as session:
        rows = session.execute(
            "SELECT p.name, r.last_seq FROM scheduling_run r"
            " JOIN portfolios_portfolio p ON p.id = r.portfolio_id WHERE r.node_id IS NOT NULL"
        ).fetchall()
    return dict(rows)


def promote(pair: Pair) -> float:
    """Promote the standby. Return the seconds from its first answer until all have committed."""
    before = positions(pair.standby)
    began = pair.standby.promote()
    wait_for(
        lambda: positions(pair.standby),
        lambda now: all(now[name] > seq for name, seq in before.items()),
        "commits of every portfolio on the new primary",
    )
    return time.monotonic() - began


def readiness(cluster: Cluster) -> tuple[int, str, float]:
    """Return status, detail and seconds of a readiness request."""
    began = time.monotonic()
    answer = cluster.call("GET", "/api/readyz/")
    return answer.status, answer.json.get("detail", ""), time.monotonic() - began


def vanished(cluster: Cluster) -> str:
    """Return the reason of the open commits_vanished alert, or an empty text."""
    found = cluster.query(
        "SELECT reason FROM scheduling_alert WHERE kind = 'commits_vanished' AND closed_at IS NULL"
    )
    return found[0][0] if found else ""


def test_promotion_after_dropped_packets_loses_no_commit(hosts: Hosts) -> None:
    pair, cluster = hosts.pair, hosts.cluster
    pair.make_synchronous()
    noted = "SELECT synchronous FROM scheduling_databasetimeline ORDER BY id DESC LIMIT 1"
    eventually(lambda: cluster.query(noted) == [(True,)], what="the gateway knows of the standby")
    owners = {name: run.ownership for name, run in cluster.runs().items()}
    promoted_at = cluster.now()
    with hosts.first.hold_traffic():
        took_s = promote(pair)
        print(f"commits after {took_s:.2f} s")
        assert took_s < budget_s(COMMITS_WITHIN_S)
        cluster.follow_database(pair.url(pair.standby.port))
        eventually(lambda: readiness(cluster)[0] == 200, what="readiness")
        moved = {
            owners[name][0] for name, run in cluster.runs().items() if run.ownership != owners[name]
        }
        assert moved <= starved_nodes(cluster, promoted_at)
        # Every LISTEN connection works again: the migration does not wait for a heartbeat.
        cluster.migrate("canary-1", cluster.other_node("canary-1"))
        cluster.wait_for_progress()
        cluster.assert_canaries_clean()
        assert vanished(cluster) == ""
        settled = "SELECT data->>'settled' FROM scheduling_event WHERE kind = 'database_changed'"
        eventually(lambda: cluster.query(settled), what="the change of the database noted")
        assert cluster.query(settled) == [("true",)]
        pair.primary.kill()  # before what was held back reaches it


def assert_readiness_is_red(cluster: Cluster) -> None:
    """Assert that readiness turns red within its budget, says why, and answers at once."""
    (status, said, _), took_s = wait_for(
        lambda: readiness(cluster), lambda found: found[0] == 503, "readiness red"
    )
    assert (status, took_s < budget_s(6)) == (503, True)
    assert said.startswith("The gateway's ")
    assert "limit 5 s" in said
    for _ in range(5):
        assert readiness(cluster)[2] < budget_s(1)


def test_readiness_is_red_without_the_primary_and_commits_missing_on_the_standby_are_reported(
    hosts: Hosts,
) -> None:
    pair, cluster = hosts.pair, hosts.cluster
    assert "ginkgo.W001" in warnings(cluster)
    pair.stop_replication()
    # Acknowledged from here on, and lost: a migration, a stop, events and orders.
    cluster.migrate("canary-1", cluster.other_node("canary-1"))
    eventually(
        lambda: cluster.call("POST", "/api/portfolios/canary-2/stop/", {}).status == 202,
        what="the stop of canary-2 accepted",
    )
    eventually(lambda: cluster.run("canary-2").phase == "stopped", what="canary-2 stopped")
    before = cluster.runs()
    cluster.wait_for_progress()
    acknowledged = {name: run.last_seq for name, run in cluster.runs().items()}
    eventually(lambda: readiness(cluster)[0] == 200, what="readiness")
    pair.primary.freeze()
    assert_readiness_is_red(cluster)
    promoted_at = pair.standby.promote()
    eventually(lambda: readiness(cluster)[0] == 200, what="readiness")
    took_s = time.monotonic() - promoted_at
    print(f"ready {took_s:.2f} s after the promotion")
    assert took_s < budget_s(READY_WITHIN_S)
    cluster.follow_database(pair.url(pair.standby.port))
    complete = rf"\(portfolios: {len(before)}, events: \d+, placed orders: \d+\)"
    said, took_s = wait_for(
        lambda: vanished(cluster),
        lambda said: re.search(complete, said),
        "the alert with all portfolios",
    )
    print(f"after {took_s:.1f} s: {said}")
    assert "unverified portfolios: " in said  # the grant of the migration is missing as well
    ((held_by,),) = cluster.query("SELECT held_by FROM scheduling_storm")
    assert held_by == "database"
    floor = cluster.manage("raise_epoch_floor")
    assert floor["lowest_now"] > max(run.epoch for run in before.values())
    cluster.wait_for_progress()
    wait_for(
        cluster.runs,
        lambda runs: all(run.last_seq > acknowledged[name] for name, run in runs.items()),
        "every portfolio beyond its acknowledged seq",
    )
    eventually(lambda: vanished(cluster) == "", what="the alert closed")
    assert cluster.query("SELECT held_at FROM scheduling_storm") == [(None,)]
    cluster.assert_nothing_lost()


def warnings(cluster: Cluster) -> str:
    """Return the output of the database checks."""
    done = run_python("manage.py", "check", "--database", "default", **cluster.environment())
    assert done.returncode == 0, done.stderr
    return done.stderr
