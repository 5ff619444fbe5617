"""Roll-outs in a running installation, over portfolios that trade."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from chaos.harness.cluster import PROCESS_MATCH, SHARES, Cluster
from chaos.harness.installation import SLOW_MACHINE_S
from chaos.harness.observation import wait_for
from chaos.harness.turns import upload_turns

PORTFOLIOS = ("rolled-1", "rolled-2", "rolled-3", "rolled-4")


@pytest.fixture
def versions(quick_cluster: Cluster) -> Iterator[list[str]]:
    """Yield the hashes of three versions, of which the third raises; portfolios run the first."""
    found = [upload_turns(quick_cluster, version) for version in ("1.0", "2.0")]
    found.append(upload_turns(quick_cluster, "3.0", broken="at its third event"))
    for name in PORTFOLIOS:
        quick_cluster.create(name, "turns", SHARES, artifact=found[0])
    for name in PORTFOLIOS:
        wait_for(
            lambda name=name: quick_cluster.get(f"/api/portfolios/{name}/"),  # type: ignore[misc]
            lambda seen: seen["good_revision"] == 1,
            f"{name} proven",
        )
    yield found
    for name in PORTFOLIOS:
        quick_cluster.delete(name)


def roll_out(cluster: Cluster, artifact: str, *options: str, check: bool = True) -> dict[str, Any]:
    names = ",".join(PORTFOLIOS)
    arguments = ["roll_out", artifact, "--portfolios", names, "--wait", "600", *options]
    return dict(cluster.manage(*arguments, check=check))


def roll_out_while_killing(cluster: Cluster, artifact: str) -> dict[str, Any]:
    """Roll out, two at a time after `rolled-2`; kill the watcher and a process."""
    names = ",".join(PORTFOLIOS)
    arguments = ["roll_out", artifact, "--portfolios", names, "--at-a-time", "2"]
    begun = cluster.manage(*arguments, "--canary", "rolled-2")
    for process in cluster.processes_of(PROCESS_MATCH["watcher"]):
        process.kill()
    wait_for(
        lambda: cluster.get(f"/api/roll-outs/{begun['id']}/")["items"],
        lambda items: {item["state"] for item in items[1:]} != {"waiting"},
        "a portfolio after the canary at work",
    )
    pid, _ = wait_for(
        lambda: cluster.get("/api/portfolios/rolled-1/")["run"]["pid"],
        bool,
        "a process of rolled-1",
    )
    with suppress(psutil.NoSuchProcess):  # its reload has just replaced it
        psutil.Process(pid).kill()
    return wait_until(cluster, begun["id"], "finished")


def wait_until(cluster: Cluster, number: int, state: str) -> dict[str, Any]:
    """Wait until the roll-out is in this state, and return it."""
    found, _ = wait_for(
        lambda: cluster.get(f"/api/roll-outs/{number}/"),
        lambda seen: seen["state"] == state,
        f"roll-out {number} {state}",
        2 * SLOW_MACHINE_S,
    )
    return dict(found)


def take_back(cluster: Cluster, number: int) -> dict[str, Any]:
    """Take a roll-out back and wait until it is."""
    answer = cluster.call("POST", f"/api/roll-outs/{number}/back/", {})
    assert answer.status == 202, answer.text
    return wait_until(cluster, number, "back")


@pytest.mark.slow
def test_roll_out_of_a_good_version_reaches_all_and_of_a_bad_one_stops_at_its_canary(
    quick_cluster: Cluster, versions: list[str]
) -> None:
    cluster = quick_cluster
    rolled = roll_out_while_killing(cluster, versions[1])
    assert rolled["ended"] == 4
    assert next(item["portfolio"] for item in rolled["items"]) == "rolled-2"
    assert {item["state"] for item in rolled["items"]} == {"done"}
    pauses = sorted(item["pause_ms"] for item in rolled["items"])
    print(f"pauses of {len(pauses)} portfolios in ms: {pauses}")

    stopped = roll_out(cluster, versions[2], "--canary", "rolled-1", check=False)
    assert stopped["code"] == "roll_out_stopped"
    items = {item["portfolio"]: item for item in stopped["roll_out"]["items"]}
    assert items["rolled-1"]["state"] == "rejected"
    assert "version 3.0 is wrong" in items["rolled-1"]["reason"]
    assert {items[name]["state"] for name in PORTFOLIOS[1:]} == {"skipped"}
    kinds, _ = wait_for(
        lambda: [alert["kind"] for alert in cluster.get("/api/alerts/?open=true")["results"]],
        lambda open_alerts: "roll_out_stopped" in open_alerts,
        "the alert of the roll-out",
    )
    assert kinds.count("roll_out_stopped") == 1 and "revision_rejected" not in kinds
    cluster.wait_for_progress()
    runs = cluster.runs()
    assert {runs[name].revision for name in PORTFOLIOS} == {2}

    take_back(cluster, stopped["roll_out"]["id"])
    back = take_back(cluster, rolled["id"])
    assert {item["state"] for item in back["items"]} == {"returned"}
    runs = cluster.runs()
    assert {runs[name].revision for name in PORTFOLIOS} == {1}
    cluster.assert_nothing_lost()
    verdicts = cluster.manage("verify_portfolio", "--all", check=False)["results"]
    rolled_out = [verdict for verdict in verdicts if verdict["portfolio"] in PORTFOLIOS]
    assert len(rolled_out) == len(PORTFOLIOS)
    for verdict in rolled_out:
        assert verdict["state"] == "identical", verdict["sentence"]
        assert verdict["orders"] > 0 and verdict["fills"] > 0
