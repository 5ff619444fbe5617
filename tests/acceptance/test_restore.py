"""A backup taken while everything runs, the loss of everything since, and the way back.

By the lines of docs/mechanisms/backup.md.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from chaos.harness.cluster import DEMO_NODES, Cluster
from chaos.harness.installation import SLOW_MACHINE_S, eventually, temporary_home
from ginkgo_site.env import CHECKOUT, embedded_url
from tests.acceptance.conftest import QUICK, SharedHouses
from tests.support.documented_commands import run_lines, sh_blocks, without_dump

BACKUP, RESTORE = sh_blocks("docs/mechanisms/backup.md")

pytestmark = pytest.mark.slow

OWN = "node-9"  #: a daemon outside of the house, which lives through its end
LATE = "node-8"  #: one that starts again between dump and restore


@contextmanager
def database_alone(fleet: Cluster) -> Iterator[str]:
    """The embedded server without the rest of the house; yields its URL."""
    server = subprocess.Popen(
        [sys.executable, "-m", "ginkgo_site.launcher.postgres", "--home", str(fleet.home)],
        cwd=CHECKOUT,
        env=fleet.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        # It says its URL when it is ready itself: until then the house's old one may still answer.
        assert server.stdout is not None
        assert server.stdout.readline().strip() == f"DATABASE_URL={embedded_url(fleet.home)}"
        yield embedded_url(fleet.home)
    finally:
        server.terminate()
        server.communicate(timeout=SLOW_MACHINE_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_restored_house_goes_on_from_the_dump_and_refuses_what_ran_on(
    shared_houses: SharedHouses,
) -> None:
    shared_houses.close()
    with temporary_home() as home:
        fleet = Cluster(home, "--port", str(free_port()), **QUICK)
        fleet.start()
        try:
            with fleet.own_node(OWN) as daemon, ExitStack() as late:
                rehearse(fleet, late)
                assert daemon.poll() is None
                for name in (OWN, LATE):
                    said = (home / "logs" / f"{name}.txt").read_text(encoding="utf-8")
                    assert "registering again" in said
        finally:
            fleet.end()


def is_alive(fleet: Cluster, node: str = OWN) -> bool:
    answer = fleet.call("GET", f"/api/nodes/{node}/")  # 404 until it has registered
    return answer.status == 200 and answer.json["status"] == "alive"


def rehearse(fleet: Cluster, late: ExitStack) -> None:
    token = fleet.node_token(LATE)
    eventually(lambda: is_alive(fleet), 20, OWN)
    with fleet.own_node(LATE, token=token):
        eventually(lambda: is_alive(fleet, LATE), 20, LATE)
        fleet.migrate("canary-1", OWN)
        fleet.progress()
        before = fleet.runs()
        orders = {row[0] for row in fleet.query("SELECT id FROM portfolios_order")}
        run_lines(BACKUP, fleet.environment(), fleet.home)
    # What is lost: events, epochs, handoffs, an incarnation, and a portfolio under a number to be
    # given again.
    restarted = late.enter_context(fleet.own_node(LATE, token=token))
    fleet.progress()
    for _ in range(2):
        fleet.migrate("canary-1", "node-1" if fleet.run("canary-1").node == OWN else OWN)
    fleet.progress()
    eventually(lambda: is_alive(fleet, LATE), 20, LATE)
    lost = fleet.run("canary-1")
    assert (lost.node, lost.epoch) == (OWN, before["canary-1"].epoch + 2)
    fleet.end()
    with database_alone(fleet):
        run_lines(without_dump(BACKUP) + RESTORE, fleet.environment(), fleet.home)
        floor = fleet.manage("raise_epoch_floor")
    assert floor["lowest_now"] > lost.epoch
    fleet.start()
    eventually(lambda: is_alive(fleet), 20, OWN)
    eventually(lambda: is_alive(fleet, LATE), 20, LATE)
    assert restarted.poll() is None
    fleet.wait_until_converged((*DEMO_NODES, LATE))
    after = fleet.runs()
    assert after.keys() == before.keys()
    assert all(after[name].last_seq >= run.last_seq for name, run in before.items())
    assert all(after[name].epoch > 1_000_000 for name in before)
    assert orders <= {row[0] for row in fleet.query("SELECT id FROM portfolios_order")}
    assert fleet.query("SELECT 1 FROM scheduling_event WHERE kind = 'epoch_floor_raised'")
    fleet.assert_canaries_clean()
    fleet.assert_history_whole()
