"""Roll-outs in a running installation, over portfolios that trade."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.harness.cluster import SHARES, Cluster, wait_for
from chaos.harness.installation import SLOW_MACHINE_S
from tests.support.artifacts import make_wheel

PORTFOLIOS = ("rolled-1", "rolled-2", "rolled-3", "rolled-4")
#: An event every 0.25 s: the third comes long before a revision is good.
SYMBOLS = [
    "IBM",
    "GE",
    "HD",
    "XOM",
    "CVX",
    "JPM",
    "MS",
    "WFC",
    "KO",
    "PEP",
    "PG",
    "MO",
    "JNJ",
    "MRK",
    "BAC",
    "C",
]

#: Buys and sells one share by turns. `{raises}` is what a version does at its third event.
TURNS = '''
import msgspec

from portfolios.strategies.base import OrderIntent, Strategy


class TurnsParameters(msgspec.Struct, frozen=True):
    """None."""


class Turns(Strategy):
    """Buy, sell, buy …"""

    name = "turns"
    parameters_type = TurnsParameters

    def on_event(self, ctx, state, event):
        state["{version}"] = state.get("{version}", 0) + 1
        if {raises} and state["{version}"] == 3:
            raise ValueError("version {version} is wrong")
        if ctx.has_open_order(event.symbol):
            return None
        side = "sell" if ctx.held(event.symbol) else "buy"
        return [OrderIntent(event.symbol, side, 1)]
'''


def add_version(cluster: Cluster, folder: Path, version: str, *, raises: bool = False) -> str:
    """Build and upload a version of the strategy. Return its hash."""
    code = TURNS.replace("{version}", version).replace("{raises}", str(raises))
    points = "[ginkgo.strategies]\nturns = turns_demo:Turns\n"
    name, wheel = make_wheel(
        "turns-demo", version, {"turns_demo/__init__.py": code}, entry_points=points
    )
    (folder / name).write_bytes(wheel)
    return str(cluster.manage("add_artifact", str(folder / name))["sha256"])


@pytest.fixture
def versions(quick_cluster: Cluster, tmp_path: Path) -> Iterator[list[str]]:
    """Three versions, the third of which raises, and portfolios that run the first, proven."""
    found = [add_version(quick_cluster, tmp_path, version) for version in ("1.0", "2.0")]
    found.append(add_version(quick_cluster, tmp_path, "3.0", raises=True))
    for name in PORTFOLIOS:
        body = {"name": name, "strategy": "turns", "symbols": SHARES, "artifact": found[0]}
        answer = quick_cluster.call("POST", "/api/portfolios/", body)
        assert answer.status == 201, answer.text
    for name in PORTFOLIOS:
        wait_for(
            lambda name=name: quick_cluster.get(f"/api/portfolios/{name}/"),  # type: ignore[misc]
            lambda seen: seen["good_revision"] == 1,
            SLOW_MACHINE_S,
            f"{name} proven",
        )
    yield found
    for name in PORTFOLIOS:
        quick_cluster.call("DELETE", f"/api/portfolios/{name}/", {})


def roll_out(cluster: Cluster, artifact: str, *options: str, check: bool = True) -> dict[str, Any]:
    names = ",".join(PORTFOLIOS)
    arguments = ["roll_out", artifact, "--portfolios", names, "--wait", "240", *options]
    return dict(cluster.manage(*arguments, check=check))


@pytest.mark.slow
def test_a_good_version_reaches_all_a_bad_one_stops_at_the_canary_and_nothing_is_lost(
    quick_cluster: Cluster, versions: list[str]
) -> None:
    cluster = quick_cluster
    rolled = roll_out(cluster, versions[1], "--at-a-time", "2", "--canary", "rolled-2")
    assert (rolled["state"], rolled["ended"]) == ("finished", 4)
    assert next(item["portfolio"] for item in rolled["items"]) == "rolled-2"
    assert {item["state"] for item in rolled["items"]} == {"done"}
    pauses = sorted(item["pause_ms"] for item in rolled["items"])
    print(f"pauses of {len(pauses)} portfolios in ms: {pauses}")
    assert pauses[len(pauses) // 2] < 2000

    stopped = roll_out(cluster, versions[2], "--canary", "rolled-1", check=False)
    assert stopped["code"] == "roll_out_stopped"
    items = {item["portfolio"]: item for item in stopped["roll_out"]["items"]}
    assert items["rolled-1"]["state"] == "rejected"
    assert "version 3.0 is wrong" in items["rolled-1"]["reason"]
    assert {items[name]["state"] for name in PORTFOLIOS[1:]} == {"skipped"}
    kinds, _ = wait_for(
        lambda: [alert["kind"] for alert in cluster.get("/api/alerts/?open=true")["results"]],
        lambda open_alerts: "roll_out_stopped" in open_alerts,
        SLOW_MACHINE_S,
        "the alert of the roll-out",
    )
    assert kinds.count("roll_out_stopped") == 1 and "revision_rejected" not in kinds
    cluster.wait_for_progress()
    runs = cluster.runs()
    assert {runs[name].revision for name in PORTFOLIOS} == {2}

    number = str(rolled["id"])
    back = cluster.manage("roll_out", "--back", str(stopped["roll_out"]["id"]), "--wait", "120")
    assert back["state"] == "back"
    back = cluster.manage("roll_out", "--back", number, "--wait", "120")
    assert {item["state"] for item in back["items"]} == {"returned"}
    runs = cluster.runs()
    assert {runs[name].revision for name in PORTFOLIOS} == {1}
    cluster.assert_history_whole()
    cluster.assert_canaries_clean()
    for name in PORTFOLIOS:
        verdict = cluster.manage("verify_portfolio", name)
        assert verdict["state"] == "identical", verdict["sentence"]
        assert verdict["orders"] > 0 and verdict["fills"] > 0
