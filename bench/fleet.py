"""Measure a simulated fleet: `bin/bench fleet [NODES] [PORTFOLIOS] [SECONDS]`.

Runs a real installation (`bin/up` without nodes) and simulated nodes that speak the node protocol
as daemons do (bench/fleet_nodes.py), with the portfolios spread over them. First the fleet is idle
for SECONDS: heartbeats, sample commits, and the cost of each part are measured. Then nodes are
killed one after another, and the database's clock gives the time from the mark `lost` until all
their portfolios were planned, requested, granted and committed elsewhere. Finally the web process
is killed and restarts: the rows give the time until every node has had a heartbeat answered, and
the number of nodes lost by it.

Without arguments the sizes in SIZES are measured one after another. Prints JSON rows; writes
fleet.txt and fleet.svg to the directory BENCH_OUT, if set. The lease is the product's unless
GINKGO_LEASE_TTL_S is set.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from bench.fleet_installation import CAPACITY, FleetInstallation, fleet_installation, zone_count
from bench.fleet_nodes import SimulatedNode, Tally
from bench.result_table import loss_svg, median_row, report, row
from scheduling.node_daemon.config import NodeConfig

SIZES = ((10, 100), (50, 1_000), (200, 10_000), (1_000, 100_000))
SECONDS = 30.0
LOSSES = 3
AT_ONCE = 20  #: concurrent registrations
LIMIT_S = 180.0
PLAN_TARGET_MS = 250.0
GRANTED_TARGET_S = 10.0


def main() -> None:
    given = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    report(one_size(*given) if len(given) > 1 else every_size(), "fleet", loss_svg)


def one_size(nodes: str, portfolios: str, seconds: str = str(SECONDS)) -> Iterator[dict[str, Any]]:
    """Yield the rows of one size."""
    with fleet_installation() as installation:
        yield from measure(installation, int(nodes), int(portfolios), float(seconds))


def every_size() -> Iterator[dict[str, Any]]:
    """Yield the rows of SIZES, each from its own process: Django uses one database per process."""
    environment = {name: value for name, value in os.environ.items() if name != "BENCH_OUT"}
    for size in SIZES:
        command = [sys.executable, "-m", "bench.fleet", *map(str, size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as one:
            assert one.stdout is not None
            try:
                yield from map(json.loads, one.stdout)
            finally:
                one.terminate()
        if one.returncode not in (0, 1):
            raise SystemExit(f"{' '.join(command)} ended with exit status {one.returncode}")


def measure(
    installation: FleetInstallation, nodes: int, portfolios: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one size."""
    setup = f"{nodes} nodes, {portfolios} portfolios"
    say(setup)
    tokens = installation.create_nodes(nodes)
    idle, passes, losses, web_kill = asyncio.run(
        measure_fleet(installation, tokens, portfolios, seconds)
    )
    yield from rows_of_idle(setup, idle, passes)
    yield from rows_of_losses(setup, losses)
    yield row(setup, "web killed to answering again", web_kill.back_s, "s")
    yield row(setup, "web killed to every heartbeat answered", web_kill.heard_s, "s")
    yield row(setup, "nodes lost by it", web_kill.lost, "", target="0", met=web_kill.lost == 0)


@dataclass(frozen=True, slots=True)
class IdleFleet:
    """Figures of an idle fleet."""

    seconds: float  #: for which it was measured
    beats_s: list[float]  #: sorted times to the answers of heartbeats
    commits_s: list[float]  #: sorted times to the answers of sample commits
    refused: list[str]  #: heartbeats and commits without a good answer
    cpu: dict[str, float]  #: cores, by part of the installation
    rss_mb: dict[str, float]  #: memory, by part
    load: float  #: load average of the machine


@dataclass(frozen=True, slots=True)
class NodeKill:
    """Figures of one killed node, in seconds from its mark `lost`."""

    portfolios: int
    noticed_s: float  #: from the kill to the mark
    read_ms: float  #: reading the snapshot
    plan_ms: float  #: computing the plan
    planned_s: float
    requested_s: float
    granted_s: float
    committed_s: float
    cpu_s: dict[str, float]  #: of each part, from the kill to the last commit


@dataclass(frozen=True, slots=True)
class WebKill:
    """Figures of a web process that was killed and restarted, in seconds from the kill."""

    back_s: float  #: until it answers
    heard_s: float  #: until a heartbeat of every node was answered
    lost: int  #: number of nodes marked lost


async def measure_fleet(
    installation: FleetInstallation, tokens: list[tuple[str, str]], portfolios: int, seconds: float
) -> tuple[IdleFleet, dict[str, list[float]], list[NodeKill], WebKill]:
    """Load the fleet, measure it idle, its passes (ms by name), killed nodes, the killed web."""
    tally = Tally()
    nodes = [
        SimulatedNode(
            NodeConfig(
                name=name,
                server=installation.access["url"],
                token=token,
                # 1.1: the mean weight of a portfolio
                capacity=max(5, int(CAPACITY * 1.1 * portfolios / len(tokens)) + 1),
                labels={"zone": f"z{number % zone_count(len(tokens))}"},
            ),
            strategies_and_feeds(),
            tally,
        )
        for number, (name, token) in enumerate(tokens)
    ]
    began = time.monotonic()
    await register_all(nodes)
    try:
        say("loading portfolios")
        held = await asyncio.to_thread(installation.load_portfolios, portfolios, len(nodes))
        for node in nodes:
            node.adopt(held.get(node.config.name, {}))
        await fetch_desired_sets(installation, nodes)
        # No lease is judged expired until the gateway has served for one lease.
        ttl_s = float(os.environ.get("GINKGO_LEASE_TTL_S", 30))
        await wait_until_converged(installation, tally, began + ttl_s + 2)
        idle = await measure_idle(installation, tally, seconds)
        passes = await asyncio.to_thread(measure_passes)
        losses = []
        with installation.connection() as db:
            for number in range(min(LOSSES, len(nodes) // 3)):  # CAPACITY allows a third lost
                victim = nodes.pop(len(nodes) // 2)
                losses.append(await kill_node(installation, db, victim))
                say(f"loss {number + 1}: all granted {losses[-1].granted_s:.2f} s after the mark")
            if tally.refused:
                say(f"refused: {len(tally.refused)}, the first: {tally.refused[0]}")
            web_kill = await kill_web(installation, db, nodes, ttl_s)
        return idle, passes, losses, web_kill
    finally:
        await asyncio.gather(*(node.kill() for node in nodes), return_exceptions=True)


def strategies_and_feeds() -> dict[str, dict[str, Any]]:
    """Return the versions of strategies and the hashes of feeds that every node reports."""
    from portfolios.feeds import open_feed
    from portfolios.strategies import registry

    feed = open_feed()
    return {"strategies": registry.versions(), "feeds": {feed.name: feed.sha256}}


async def register_all(nodes: list[SimulatedNode]) -> None:
    """Register all nodes, AT_ONCE at a time."""
    gate, done, began = asyncio.Semaphore(AT_ONCE), 0, time.monotonic()

    async def register_one(node: SimulatedNode) -> None:
        nonlocal done
        async with gate:
            await node.start()
        done += 1
        if done % 100 == 0 or done == len(nodes):
            say(f"{done} of {len(nodes)} nodes registered, {time.monotonic() - began:.0f} s")

    await asyncio.gather(*(register_one(node) for node in nodes))


async def fetch_desired_sets(installation: FleetInstallation, nodes: list[SimulatedNode]) -> None:
    """Let all nodes fetch their desired sets, AT_ONCE at a time to bound the load."""
    for first in range(0, len(nodes), AT_ONCE):
        some = nodes[first : first + AT_ONCE]
        before = {node: node.desired.version if node.desired else 0 for node in some}
        await asyncio.to_thread(
            installation.bump_desired_versions, [node.config.name for node in some]
        )
        for node in some:
            node.beat_now()
        while any(node.desired is None or node.desired.version <= before[node] for node in some):
            await asyncio.sleep(0.02)


async def wait_until_converged(installation: FleetInstallation, tally: Tally, until: float) -> None:
    """Wait for `until` (time.monotonic), a full pass of the watcher, and 2 s without refusals."""
    while True:
        tally.clear()
        await asyncio.sleep(2)
        with installation.connection() as db:
            ran = db.execute(
                "SELECT 1 FROM scheduling_passlock WHERE failover_ran_at IS NOT NULL"
            ).fetchone()
        if ran and time.monotonic() > until and not tally.refused:
            return
        say(
            f"converging, {max(until - time.monotonic(), 0):.0f} s left,"
            f" {len(tally.refused)} of {len(tally.refused) + len(tally.beats_s)} beats unanswered"
        )


async def measure_idle(installation: FleetInstallation, tally: Tally, seconds: float) -> IdleFleet:
    """Leave the fleet alone for `seconds`; return times of its requests, CPU and memory."""
    say(f"idle for {seconds:g} s")
    tally.clear()
    before, began = installation.cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    took, after = time.monotonic() - began, installation.cpu_s()
    return IdleFleet(
        seconds=took,
        beats_s=sorted(tally.beats_s),
        commits_s=sorted(tally.commits_s),
        refused=list(tally.refused),
        cpu={name: (after[name] - before[name]) / took for name in before},
        rss_mb={name: installation.rss_mb(name) for name in ("web", "watcher")},
        load=os.getloadavg()[0],
    )


def measure_passes() -> dict[str, list[float]]:
    """Return the ms of passes and of their parts, measured by bench/fleet_reads.py."""
    say("measuring passes")
    done = subprocess.run(
        [sys.executable, "-m", "bench.fleet_reads"], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


#: When a node was marked lost.
MARKED = """
SELECT id, status_since FROM scheduling_node WHERE name = %(name)s AND status = 'lost'
"""

#: The newest times of the handoffs of the lost node's portfolios, and how many of these have not
#: committed elsewhere. Of a portfolio whose handoff failed, the last handoff counts.
MOVED = """
SELECT max(requested_at) AS last_requested, max(granted_at) AS last_granted,
       max(activated_at) AS last_committed,
       (SELECT count(*) FROM scheduling_run r WHERE r.portfolio_id = ANY(%(held)s::bigint[])
        AND (r.node_id = %(node)s OR r.first_commit_at IS NULL)) AS left_behind
FROM scheduling_handoff
WHERE portfolio_id = ANY(%(held)s::bigint[]) AND requested_at >= %(since)s
"""


async def kill_web(
    installation: FleetInstallation,
    db: psycopg.Connection[Any],
    nodes: list[SimulatedNode],
    ttl_s: float,
) -> WebKill:
    """Kill the web process, and wait until its successor may judge leases."""
    say("killing the web process")
    killed_at = time.monotonic()
    await asyncio.to_thread(installation.restart_web)
    back_s = time.monotonic() - killed_at
    deadline = time.monotonic() + LIMIT_S
    while (silent := sum(node.heard_at < killed_at for node in nodes)) and (
        time.monotonic() < deadline
    ):
        await asyncio.sleep(0.05)
    if silent:
        raise SystemExit(f"{silent} nodes had no heartbeat answered for {LIMIT_S:g} s")
    heard_s = time.monotonic() - killed_at
    say(f"all heartbeats answered after {heard_s:.1f} s; waiting until leases may be judged")
    await asyncio.sleep(ttl_s + 5)  # no lease is judged for ttl_s after a start; 5 s to judge
    marked_lost = db.execute("SELECT name FROM scheduling_node WHERE status = 'lost'").fetchall()
    running = {node.config.name for node in nodes}  # without those that `kill_node` killed
    lost = sum(row.name in running for row in marked_lost)
    return WebKill(back_s=back_s, heard_s=heard_s, lost=lost)


async def kill_node(
    installation: FleetInstallation, db: psycopg.Connection[Any], victim: SimulatedNode
) -> NodeKill:
    """Kill one node and measure the failover of its portfolios."""
    log = installation.home / "logs" / "watcher.log"
    offset, held = log.stat().st_size, victim.holds
    before = installation.cpu_s()
    killed_at: datetime = db.execute("SELECT clock_timestamp() AS now").fetchone().now  # type: ignore[union-attr]
    await victim.kill()
    marked = await poll_until(db, MARKED, lambda found: found is not None, name=victim.config.name)
    since: datetime = marked.status_since
    moved = await poll_until(
        db, MOVED, lambda found: not found.left_behind, name=victim.config.name, node=marked.id,
        held=held, since=since,
    )  # fmt: skip
    after = installation.cpu_s()
    plan = first_plan_logged(log, offset)
    return NodeKill(
        portfolios=len(held),
        noticed_s=(since - killed_at).total_seconds(),
        read_ms=plan.read_ms,
        plan_ms=plan.plan_ms,
        planned_s=(plan.logged_at - since).total_seconds(),
        requested_s=(moved.last_requested - since).total_seconds(),
        granted_s=(moved.last_granted - since).total_seconds(),
        committed_s=(moved.last_committed - since).total_seconds(),
        cpu_s={name: after[name] - before[name] for name in before},
    )


async def poll_until(
    db: psycopg.Connection[Any], sql: str, is_there: Any, *, name: str, **params: Any
) -> Any:
    """Return the first row of a query about the lost node `name`, once `is_there` accepts it."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        found = db.execute(sql, {"name": name, **params}).fetchone()
        if is_there(found):
            return found
        if time.monotonic() > deadline:
            raise SystemExit(
                f"the failover of {name} did not end within {LIMIT_S:g} s; last row read: {found}"
            )
        await asyncio.sleep(0.1)


class LoggedPlan(NamedTuple):
    """A plan as the watcher logged it."""

    read_ms: float  #: reading the snapshot
    plan_ms: float  #: computing the plan
    logged_at: datetime


def first_plan_logged(log: Path, offset: int) -> LoggedPlan:
    """Return the first plan with changes that the watcher logged after `offset`."""
    with log.open() as lines:
        lines.seek(offset)
        for line in lines:
            if '"planned_ms"' in line:
                entry = json.loads(line)
                at = datetime.fromisoformat(entry["at"])
                return LoggedPlan(entry["read_ms"], entry["planned_ms"], at)
    raise SystemExit(f"the watcher logged no plan: {log.read_text()[-2000:]}")


# --- rows ----------------------------------------------------------------------------------------


def rows_of_idle(
    setup: str, idle: IdleFleet, passes: dict[str, list[float]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the idle fleet."""
    yield row(setup, "load average of the machine", idle.load, "")
    yield row(setup, "heartbeats without a good answer", len(idle.refused), "", target="0",
              met=not idle.refused)  # fmt: skip
    for what, took in (("beats", idle.beats_s), ("commits", idle.commits_s)):
        if took:
            yield row(setup, f"{what} a second", len(took) / idle.seconds, "/s")
            yield median_row(setup, f"{what}: p50", took, "ms", 1e3)
            yield row(setup, f"{what}: p99", took[int(len(took) * 0.99)] * 1e3, "ms")
    for name, cores in idle.cpu.items():
        yield row(setup, f"cpu of {name}", 100 * cores, "% of a core")
    for name, mb in idle.rss_mb.items():
        yield row(setup, f"memory of {name}", mb, "MB")
    for key, name in (
        ("first", "observe, first look"),
        ("looks", "observe, nothing changed"),
        ("plans", "plan, nothing to do"),
        ("sweeps", "sweep, nothing to do"),
        ("urgent_sweeps", "sweep at a hint, nothing to do"),
    ):
        yield median_row(setup, name, passes[key], "ms")
    what, against = "asking for the failover of one node, in batches", passes["single"]
    note = "against one by one, both without their commits"
    yield median_row(
        setup, what, passes["batched"], "ms", against=statistics.median(against), note=note
    )


def rows_of_losses(setup: str, losses: list[NodeKill]) -> Iterator[dict[str, Any]]:
    """Yield the median over the losses. A target is met if the worst loss meets it."""
    for key, name, unit, target in (
        ("noticed_s", "killed to marked", "s", None),
        ("read_ms", "observe, one node lost", "ms", None),
        ("plan_ms", "plan, one node lost", "ms", PLAN_TARGET_MS),
        ("planned_s", "mark to plan", "s", PLAN_TARGET_MS / 1e3),
        ("requested_s", "mark to all requested", "s", None),
        ("granted_s", "mark to all granted", "s", GRANTED_TARGET_S),
        ("committed_s", "mark to all committed elsewhere", "s", None),
    ):
        took = [getattr(loss, key) for loss in losses]
        yield median_row(
            setup,
            name,
            took,
            unit,
            target="" if target is None else f"<= {target:g} {unit}",
            met=None if target is None else max(took) <= target,
            note=f"{losses[0].portfolios} portfolios on each" if key == "noticed_s" else "",
        )
    for name in losses[0].cpu_s:
        took = [loss.cpu_s[name] for loss in losses]
        yield median_row(setup, f"cpu of {name} for a loss", took, "s")


def say(sentence: str) -> None:
    """Print progress to stderr."""
    print(f"fleet: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
