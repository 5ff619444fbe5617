"""Measure migrate, reload, create and the loss or restart of a daemon against their time budgets.

    bin/bench budgets [MOVES=100] [RELOADS=100] [KILLS=30] [ROLL_OUTS=2]

Runs `bin/up` with the product's time limits on real prices, and measures these paths twice: with
pushes, and with every push lost inside the database.

- `migrate`, `reload`: requested through the API, one after another; until the handoff is done.
- `roll-out`: a new version is rolled out over nine portfolios that trade, three at a time after
  the canary; request to done is that of each reload.
- `create`: 20 portfolios are created and deleted; until the first commit.
- `kill -9`: a daemon is killed; until each of its portfolios has committed elsewhere.
- `frozen`: a daemon and its processes get SIGSTOP; until each of its portfolios has committed
  elsewhere. A tenth as often as `kill -9`, since each takes a lease.
- `restart`: kill -9, and at once a new daemon of the same name.

Durations are by the database's clock: request to done in s, pause as `pause_ms` of the handoff. One
JSON row per path and figure, with p50, p99 and the worst value. Exits 1 if a path exceeds its
budget.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

from bench.result_table import given_numbers
from chaos.harness.cluster import CANARIES, SHARES, Cluster
from chaos.harness.installation import temporary_home
from chaos.harness.observation import DEMO_NODES, ClusterRun, wait_for
from chaos.harness.processes import process_tree, suspended
from chaos.harness.turns import upload_turns

#: Path → budgets of the design, with pushes and with every push lost: s from request to done or to
#: the first commit elsewhere, ms of the pause's p50 and p99; `create` has no pause.
BUDGETS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "migrate": ((2, 100, 500), (10, 5000, 5000)),
    "reload": ((2, 100, 500), (10, 5000, 5000)),
    "roll-out": ((2, 50, 500), (10, 5000, 5000)),
    "kill -9": ((5, 5000, 5000), (33, 33_000, 33_000)),
    "frozen": ((33, 33_000, 33_000), (33, 33_000, 33_000)),
    "restart": ((5, 5000, 5000), (10, 10_000, 10_000)),
    "create": ((2, 0, 0), (12, 0, 0)),
}


def main() -> None:
    moves, reloads, kills, roll_outs = given_numbers(100, 100, 30, 2)
    is_met = True
    with temporary_home() as home:
        cluster = Cluster(home, "--node-restart", "6")
        cluster.start()
        try:
            for pushes, silence in (
                ("pushed", nullcontext),
                ("every push lost", cluster.pushes_lost),
            ):
                for each in measure(cluster, pushes, silence, moves, reloads, kills, roll_outs):
                    print(json.dumps(each), flush=True)
                    is_met = is_met and bool(each["met"])
            cluster.converge_without_loss()
        finally:
            cluster.kill_everything()
    sys.exit(0 if is_met else 1)


def measure(
    cluster: Cluster,
    pushes: str,
    silence: Callable[[], AbstractContextManager[None]],
    moves: int,
    reloads: int,
    kills: int,
    roll_outs: int,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all paths, each measured inside `silence()`, which `pushes` names."""
    cluster.wait_until_converged()
    with silence():
        for path, change, times in (("migrate", migrate, moves), ("reload", reload, reloads)):
            if done := [change(cluster, number) for number in range(times)]:
                yield from rows(path, pushes, *zip(*done, strict=True))  # all seconds, all pauses
        if roll_outs:
            done = list(roll_out(cluster, roll_outs))
            yield from rows("roll-out", pushes, *zip(*done, strict=True))
        yield from rows("create", pushes, [create(cluster, number, pushes) for number in range(20)])
    if not kills:
        return
    freezes = max(kills // 10, 1)
    for path, lose, times in (("kill -9", kill, kills), ("frozen", freeze, freezes)):
        took, pauses = [], []
        for number in range(times):
            cluster.wait_until_converged(limit_s=120)
            with silence():
                took_s, pauses_ms = lose(cluster, DEMO_NODES[number % 3])
            took.append(took_s)
            pauses += pauses_ms
        yield from rows(path, pushes, took, pauses)
    cluster.wait_until_converged(limit_s=120)
    yield from rows("restart", pushes, list(restarts(cluster, silence, freezes * 3)))


def migrate(cluster: Cluster, number: int) -> tuple[float, float]:
    """Migrate a canary. Return the seconds from request to done, and its pause in ms."""
    name = CANARIES[number % 3]
    return figures_of(cluster.migrate(name, cluster.other_node(name), limit_s=60))


def reload(cluster: Cluster, number: int) -> tuple[float, float]:
    """Reload a canary's running revision. Return as `migrate` does."""
    name = CANARIES[number % 3]
    answer = cluster.call("POST", f"/api/portfolios/{name}/reload/", {"reason": "measured"})
    done = cluster.wait_for_handoff(answer.must_be(202).json["id"], 60)
    assert done["state"] == "done", f"the reload of {name} is {done['state']}: {done['error']}"
    return figures_of(done)


def roll_out(cluster: Cluster, times: int) -> Iterator[tuple[float, float]]:
    """Roll `times` versions out over nine portfolios, with a node more than the demo has.

    Yield the seconds from request to done, and the pause in ms, of each reload.
    """
    names, began = [f"rolled-{n}" for n in range(1, 10)], int(time.time())
    options = ["--portfolios", ",".join(names), "--at-a-time", "3", "--canary-seconds", "1"]
    with cluster.extra_node("node-more"):
        first = upload_turns(cluster, f"0.{began}")
        for name in names:
            cluster.create(name, "turns", SHARES, artifact=first)
        for number in range(1, times + 1):
            version = upload_turns(cluster, f"{number}.{began}")
            done = cluster.manage("roll_out", version, *options, "--wait", "400")
            unfinished = [item for item in done["items"] if item["state"] != "done"]
            assert not unfinished, f"the roll-out of {version} is not done: {unfinished}"
            found = cluster.query(
                "SELECT extract(epoch FROM h.finished_at - h.requested_at), h.pause_ms"
                " FROM scheduling_rolloutitem i JOIN scheduling_handoff h"
                " ON h.portfolio_id = i.portfolio_id AND h.to_revision = i.to_revision"
                " WHERE i.roll_out_id = %s AND h.kind = 'reload' AND h.state = 'done'",
                done["id"],
            )
            assert len(found) == len(names), f"{len(found)} reloads of {len(names)} portfolios"
            yield from ((float(took_s), float(pause_ms)) for took_s, pause_ms in found)
        for name in names:
            cluster.delete(name)


def figures_of(handoff: dict[str, str]) -> tuple[float, float]:
    """Return the seconds from request to done, and the pause in ms."""
    requested, finished = (
        datetime.fromisoformat(handoff[key]) for key in ("requested_at", "finished_at")
    )
    return (finished - requested).total_seconds(), float(handoff["pause_ms"])


def create(cluster: Cluster, number: int, pushes: str) -> float:
    """Create a portfolio and delete it. Return the seconds to its first commit."""
    name = f"born-{pushes.split()[0]}-{number}"
    began = cluster.now()
    cluster.create(name, "canary", ["*"], config={})
    run, _ = wait_for(
        lambda: cluster.run(name), lambda run: run.committed_at, f"the first commit of {name}", 60
    )
    cluster.delete(name)
    wait_for(lambda: name in cluster.runs(), lambda there: not there, f"{name} deleted", 60)
    assert run.committed_at is not None
    return (run.committed_at - began).total_seconds()


def kill(cluster: Cluster, node: str) -> tuple[float, list[float]]:
    """Kill a daemon. Return the seconds until all committed elsewhere, and the pauses in ms."""
    had, since = cluster.portfolios_on(node), cluster.now()
    cluster.daemon(node).kill()
    return cluster.wait_for_commits_elsewhere(had, node, 60), failover_pauses(cluster, since)


def freeze(cluster: Cluster, node: str) -> tuple[float, list[float]]:
    """Freeze a daemon until its portfolios have committed elsewhere. Return as `kill` does."""
    had, since = cluster.portfolios_on(node), cluster.now()
    with suspended(process_tree(cluster.daemon(node))):
        return cluster.wait_for_commits_elsewhere(had, node, 100), failover_pauses(cluster, since)


def restarts(
    cluster: Cluster, silence: Callable[[], AbstractContextManager[None]], times: int
) -> Iterator[float]:
    """Yield the seconds from kill -9 of a daemon until all portfolios committed under a new one.

    The new daemon has the same name and takes over the portfolios, whether or not the end of the
    old socket was noticed.
    """
    name, url = "node-again", cluster.access["url"]
    token = cluster.create_node_token(name)
    daemon = cluster.launch_node(name, url, token)
    try:
        wait_for(
            lambda: name in [n["name"] for n in cluster.get("/api/nodes/")["results"]],
            bool,
            f"{name} registered",
            30,
        )
        for _ in range(times):
            cluster.wait_until_converged((*DEMO_NODES, name), limit_s=120)
            # A third takeover within a minute counts as two daemons that fight over a name.
            cluster.query("UPDATE scheduling_lease SET takeovers = '[]'")
            had = cluster.portfolios_on(name)
            old = cluster.run(had[0]).incarnation
            with silence():
                daemon.kill()
                daemon.wait()
                daemon = cluster.launch_node(name, url, token)
                yield _wait_for_new_incarnation(old, cluster, had)
    finally:
        daemon.terminate()
        daemon.wait(20)


def _wait_for_new_incarnation(old: str | None, cluster: Cluster, names: list[str]) -> float:
    """Wait until all committed under another incarnation than `old`; return the seconds."""

    def have_committed(runs: list[ClusterRun]) -> bool:
        return all(r.incarnation != old and r.phase == "running" and r.committed_at for r in runs)

    what = f"{', '.join(names)} committing under the new incarnation"
    return wait_for(lambda: [cluster.run(name) for name in names], have_committed, what, 60)[1]


def failover_pauses(cluster: Cluster, since: datetime) -> list[float]:
    """Return the pause in ms of each failover requested after `since`."""
    time.sleep(0.1)  # the last commit was seen within 30 ms; its handoff is closed by now
    pauses = cluster.query(
        "SELECT pause_ms FROM scheduling_handoff"
        " WHERE kind = 'failover' AND state = 'done' AND requested_at > %s AND pause_ms > 0",
        since,
    )
    return [float(pause) for (pause,) in pauses]


def rows(
    path: str, pushes: str, took_s: tuple | list, pauses_ms: tuple | list = ()
) -> Iterator[dict[str, Any]]:
    """Yield a row for the durations, and a row for the pauses if there are any."""
    with_pushes, without_pushes = BUDGETS[path]
    limit_s, p50_ms, p99_ms = with_pushes if pushes == "pushed" else without_pushes
    what = "request to done" if path in ("migrate", "reload", "roll-out") else "to the first commit"
    worst = max(took_s)
    yield {
        **row(path, pushes, what, "s", sorted(took_s)),
        "budget": limit_s,
        "met": worst <= limit_s,
    }
    if pauses_ms:
        found = row(path, pushes, "pause", "ms", sorted(pauses_ms))
        is_met = found["p50"] <= p50_ms and found["p99"] <= p99_ms
        yield {**found, "budget": [p50_ms, p99_ms], "met": is_met}


def row(path: str, pushes: str, name: str, unit: str, values: list[float]) -> dict[str, Any]:
    """Return a row with the quantiles of sorted values."""
    return {
        "path": path,
        "pushes": pushes,
        "name": name,
        "unit": unit,
        "times": len(values),
        "p50": round(values[len(values) // 2], 3),
        "p99": round(values[min(int(len(values) * 0.99), len(values) - 1)], 3),
        "worst": round(values[-1], 3),
    }


if __name__ == "__main__":
    main()
