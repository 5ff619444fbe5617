"""Verification of portfolios in a running installation."""

from __future__ import annotations

import signal

import pytest

from chaos.harness.cluster import CANARIES, Cluster
from chaos.harness.installation import SLOW_MACHINE_S
from chaos.harness.observation import DEMO_NODES, wait_for


@pytest.mark.slow
def test_verification_is_identical_after_migrations_a_reload_a_stop_and_a_kill(
    quick_cluster: Cluster,
) -> None:
    cluster = quick_cluster
    for name in (*CANARIES, "ge-sma", "bank-revert"):
        assert cluster.migrate(name, cluster.other_node(name))["state"] == "done"
    changed = cluster.patch("ge-sma", {"config": {"fast": 2, "slow": 5, "quantity": "9"}})
    cluster.wait_for_handoff(changed["handoff"]["id"], SLOW_MACHINE_S)
    wait_for(
        lambda: cluster.run("ge-sma").revision,
        lambda revision: revision == changed["portfolio"]["revision"],
        "the changed configuration granted",
    )
    stopped = cluster.call("POST", "/api/portfolios/energy-revert/stop/", {}).json
    assert cluster.wait_for_handoff(stopped["id"], SLOW_MACHINE_S)["state"] == "done"
    assert cluster.call("POST", "/api/portfolios/energy-revert/start/", {}).status == 202
    victim, _ = wait_for(lambda: cluster.run("canary-1").node or "", bool, "its node")
    epoch = cluster.run("canary-1").epoch
    cluster.daemon(victim).send_signal(signal.SIGKILL)
    # It may be back before a slow machine looks.
    wait_for(lambda: cluster.run("canary-1").epoch, lambda now: now > epoch, "moved")
    cluster.wait_until_converged(DEMO_NODES)
    cluster.wait_for_progress()
    wait_for(
        lambda: cluster.get("/api/portfolios/ge-sma/fills/")["results"],
        bool,
        "a fill of ge-sma, which needs its bars first",
    )
    verdicts = cluster.manage("verify_portfolio", "--all")["results"]
    assert [(v["portfolio"], v["state"]) for v in verdicts] == [
        (v["portfolio"], "identical") for v in verdicts
    ]
    assert len(verdicts) >= 9
    by_name = {v["portfolio"]: v for v in verdicts}
    assert by_name["canary-1"]["handoffs"] >= 3
    assert by_name["ge-sma"]["orders"] > 0 and by_name["ge-sma"]["fills"] > 0
