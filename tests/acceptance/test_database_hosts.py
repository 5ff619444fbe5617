"""An installation on two PostgreSQL servers, the first of which stops answering without a word."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chaos.harness.cluster import QUICK, Cluster, wait_for
from chaos.harness.installation import eventually, temporary_home
from chaos.harness.tcp_proxy import Wire
from ginkgo_site.env import CHECKOUT
from tests.acceptance.conftest import SharedHouses
from tests.support.postgres_pair import Pair, Server, postgres_pair

pytestmark = pytest.mark.slow

#: From the new primary's first answer to the first commit of every portfolio.
COMMITS_WITHIN_S = 5.0


@contextmanager
def installation(shared_houses: SharedHouses, url: str) -> Iterator[Cluster]:
    """One of its own on this database, settled."""
    shared_houses.close()
    with temporary_home() as home:
        fleet = Cluster(home, **QUICK, DATABASE_URL=url)
        try:
            fleet.start()
            fleet.wait_until_converged()
            yield fleet
        finally:
            fleet.end()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with postgres_pair() as both:
        yield both


def positions(server: Server) -> dict[str, int]:
    """Return how far each portfolio is, by one server's own word."""
    with server.session("ginkgo") as session:
        rows = session.execute(
            "SELECT p.name, r.last_seq FROM scheduling_run r"
            " JOIN portfolios_portfolio p ON p.id = r.portfolio_id WHERE r.node_id IS NOT NULL"
        ).fetchall()
    return dict(rows)


def promote(pair: Pair) -> float:
    """Promote the standby; return the seconds from its first answer until all have committed."""
    before = positions(pair.standby)
    began = pair.standby.promote()
    wait_for(
        lambda: positions(pair.standby),
        lambda now: all(now[name] > seq for name, seq in before.items()),
        60,
        "commits of every portfolio on the new primary",
    )
    return time.monotonic() - began


def readiness(fleet: Cluster) -> tuple[int, str, float]:
    """Return status, detail and seconds of a readiness request."""
    began = time.monotonic()
    try:
        with urllib.request.urlopen(fleet.access["url"] + "/api/readyz/", timeout=30) as answer:
            return answer.status, "", time.monotonic() - began
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["detail"], time.monotonic() - began


def vanished(fleet: Cluster) -> str:
    """Return what the open alert says of vanished commits, or an empty text."""
    found = fleet.query(
        "SELECT reason FROM scheduling_alert WHERE kind = 'commits_vanished' AND closed_at IS NULL"
    )
    return found[0][0] if found else ""


def test_a_primary_whose_packets_are_dropped_is_replaced_and_nothing_is_lost(
    shared_houses: SharedHouses, pair: Pair
) -> None:
    pair.make_synchronous()
    with Wire(f"http://127.0.0.1:{pair.primary.port}").open() as wire:
        port = int(wire.url.rpartition(":")[2])
        with installation(shared_houses, pair.url(port, pair.standby.port)) as fleet:
            owners = {name: run.ownership for name, run in fleet.runs().items()}
            with wire.silent():
                took_s = promote(pair)
                print(f"commits after {took_s:.2f} s")
                assert took_s < COMMITS_WITHIN_S
                fleet.follow_database(pair.url(pair.standby.port))
                eventually(lambda: readiness(fleet)[0] == 200, 15, "readiness")
                assert {name: run.ownership for name, run in fleet.runs().items()} == owners
                # Every LISTEN connection lives again: a push arrives, and no pause is that of a
                # beat.
                fleet.migrate("canary-1", fleet.elsewhere("canary-1"))
                fleet.progress()
                fleet.assert_canaries_clean()
                assert vanished(fleet) == ""
                ((settled,),) = fleet.query(
                    "SELECT data->>'settled' FROM scheduling_event WHERE kind = 'database_changed'"
                )
                assert settled == "true"


def test_a_frozen_primary_turns_readiness_red_and_is_replaced(
    shared_houses: SharedHouses, pair: Pair
) -> None:
    with installation(shared_houses, pair.url()) as fleet:
        assert readiness(fleet)[0] == 200
        pair.primary.freeze()
        (status, said, _), took_s = wait_for(
            lambda: readiness(fleet), lambda found: found[0] == 503, 30, "readiness red"
        )
        assert (status, took_s < 12) == (503, True)
        assert said.startswith("The gateway's ")
        assert "limit 5 s" in said
        for _ in range(5):
            assert readiness(fleet)[2] < 2
        took_s = promote(pair)
        print(f"commits after {took_s:.2f} s")
        assert took_s < COMMITS_WITHIN_S
        eventually(lambda: readiness(fleet)[0] == 200, 15, "readiness")


def test_commits_that_an_asynchronous_standby_lacks_are_noticed_and_risen_above(
    shared_houses: SharedHouses, pair: Pair
) -> None:
    with installation(shared_houses, pair.url()) as fleet:
        assert "ginkgo.W001" in warnings(fleet)
        pair.stop_replication()
        # Acknowledged from here on, and lost: a move, a stop, events and orders of all.
        fleet.migrate("canary-1", fleet.elsewhere("canary-1"))
        assert fleet.call("POST", "/api/portfolios/canary-2/stop/", {}).status == 202
        eventually(lambda: fleet.run("canary-2").phase == "stopped", 20, "canary-2 stopped")
        before = fleet.runs()
        fleet.progress()
        acknowledged = {name: run.last_seq for name, run in fleet.runs().items()}
        pair.primary.freeze()
        pair.standby.promote()
        fleet.follow_database(pair.url(pair.standby.port))
        complete = rf"\(portfolios: {len(before)}, events: \d+, placed orders: \d+\)"
        said, took_s = wait_for(
            lambda: vanished(fleet), lambda said: re.search(complete, said), 40, "noticed, of all"
        )
        print(f"after {took_s:.1f} s: {said}")
        assert "unverified portfolios: " in said  # the grant of the move is gone as well
        ((held_by,),) = fleet.query("SELECT held_by FROM scheduling_storm")
        assert held_by == "database"
        floor = fleet.manage("raise_epoch_floor")
        assert floor["lowest_now"] > max(run.epoch for run in before.values())
        fleet.progress()
        wait_for(
            fleet.runs,
            lambda runs: all(run.last_seq > acknowledged[name] for name, run in runs.items()),
            60,
            "every portfolio beyond what had been acknowledged",
        )
        eventually(lambda: vanished(fleet) == "", 10, "the alert closed")
        assert fleet.query("SELECT held_at FROM scheduling_storm") == [(None,)]
        fleet.assert_canaries_clean()
        fleet.assert_history_whole()


def warnings(fleet: Cluster) -> str:
    """Return what the checks of the database say."""
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--database", "default"],
        cwd=CHECKOUT,
        env=fleet.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr
