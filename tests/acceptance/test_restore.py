"""Backup of a running installation, loss of its database, and restore.

Follows the shell lines of docs/mechanisms/backup.md.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from chaos.crashpoints.cluster import FailpointCluster
from chaos.harness.cluster import Cluster
from chaos.harness.installation import SLOW_MACHINE_S, eventually
from chaos.harness.observation import DEMO_NODES
from ginkgo_site.env import CHECKOUT, embedded_url
from tests.support.documented_commands import run_lines, sh_blocks, without_dump

BACKUP, RESTORE = sh_blocks("docs/mechanisms/backup.md")

pytestmark = pytest.mark.slow

OWN = "node-9"  #: a daemon outside the installation, which survives its end
LATE = "node-8"  #: a daemon that restarts between dump and restore


@contextmanager
def database_alone(cluster: Cluster) -> Iterator[str]:
    """Run only the embedded server of an installation; yield its URL."""
    server = subprocess.Popen(
        [sys.executable, "-m", "ginkgo_site.launcher.postgres", "--home", str(cluster.home)],
        cwd=CHECKOUT,
        env=cluster.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        # It prints its URL when ready; before that the old server may still answer.
        assert server.stdout is not None
        assert server.stdout.readline().strip() == f"DATABASE_URL={embedded_url(cluster.home)}"
        yield embedded_url(cluster.home)
    finally:
        server.terminate()
        server.communicate(timeout=SLOW_MACHINE_S)


def test_a_restored_installation_continues_from_the_dump_and_refuses_older_epochs(
    mortal_cluster: FailpointCluster,
) -> None:
    cluster = mortal_cluster
    with cluster.extra_node(OWN) as daemon, ExitStack() as late:
        back_up_and_restore(cluster, late)
        assert daemon.poll() is None
        for name in (OWN, LATE):
            said = (cluster.home / "logs" / f"{name}.txt").read_text(encoding="utf-8")
            assert "registering again" in said


def is_alive(cluster: Cluster, node: str = OWN) -> bool:
    answer = cluster.call("GET", f"/api/nodes/{node}/")  # 404 until it has registered
    return answer.status == 200 and answer.json["status"] == "alive"


def back_up_and_restore(cluster: Cluster, late: ExitStack) -> None:
    token = cluster.create_node_token(LATE)
    eventually(lambda: is_alive(cluster), what=OWN)
    with cluster.extra_node(LATE, token=token):
        eventually(lambda: is_alive(cluster, LATE), what=LATE)
        cluster.migrate("canary-1", OWN)
        cluster.wait_for_progress()
        before = cluster.runs()
        orders = {row[0] for row in cluster.query("SELECT id FROM portfolios_order")}
        run_lines(BACKUP, cluster.environment(), cluster.home)
    # Lost with the database: events, epochs, handoffs, an incarnation.
    restarted = late.enter_context(cluster.extra_node(LATE, token=token))
    cluster.wait_for_progress()
    for _ in range(2):
        cluster.migrate("canary-1", "node-1" if cluster.run("canary-1").node == OWN else OWN)
    cluster.wait_for_progress()
    eventually(lambda: is_alive(cluster, LATE), what=LATE)
    lost = cluster.run("canary-1")
    assert lost.node == OWN
    assert lost.epoch >= before["canary-1"].epoch + 2  # more where a starved node had to be left
    cluster.kill_everything()
    with database_alone(cluster):
        run_lines(without_dump(BACKUP) + RESTORE, cluster.environment(), cluster.home)
        floor = cluster.manage("raise_epoch_floor")
    assert floor["lowest_now"] > lost.epoch
    cluster.start()
    eventually(lambda: is_alive(cluster), what=OWN)
    eventually(lambda: is_alive(cluster, LATE), what=LATE)
    assert restarted.poll() is None
    cluster.wait_until_converged((*DEMO_NODES, LATE))
    after = cluster.runs()
    assert after.keys() == before.keys()
    assert all(after[name].last_seq >= run.last_seq for name, run in before.items())
    assert all(after[name].epoch > 1_000_000 for name in before)
    assert orders <= {row[0] for row in cluster.query("SELECT id FROM portfolios_order")}
    assert cluster.query("SELECT 1 FROM scheduling_event WHERE kind = 'epoch_floor_raised'")
    cluster.assert_nothing_lost()
