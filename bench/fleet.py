"""A simulated fleet on the real thing: `bin/bench fleet [NODES] [PORTFOLIOS] [SECONDS]`.

A real PostgreSQL, web process and watcher, as bin/up starts them, and so many nodes that speak the
node protocol as daemons do (bench/fleet_nodes.py), each with its share of the portfolios. First the
fleet is left alone for so many seconds: beats, commits of a sample, and what each part costs. Then
one node after another is killed, and the database's clock tells how long it took from the mark
`lost` until all it had was planned, requested, granted and committed elsewhere. Last the web
process is killed and started again: how long until every node was heard, and was any lost by it?

Without arguments the four sizes of SIZES, one after another. Prints JSON rows; writes fleet.txt and
fleet.svg to the directory in BENCH_OUT, if it is set. The lease is the product's unless
GINKGO_LEASE_TTL_S says another.
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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from bench.fleet_house import CAPACITY, FleetHouse, a_house, zones
from bench.fleet_nodes import SimulatedNode, Tally
from bench.fleet_plot import as_svg
from bench.result_table import as_table, row
from scheduling.node_daemon.config import NodeConfig

SIZES = ((10, 100), (50, 1_000), (200, 10_000), (1_000, 100_000))
SECONDS = 30.0
LOSSES = 3
AT_ONCE = 20  #: nodes that register at the same time
LIMIT_S = 180.0
PLAN_TARGET_MS = 250.0
GRANTED_TARGET_S = 10.0


def main() -> None:
    given = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows = []
    for each in one_size(*given) if len(given) > 1 else every_size():
        rows.append(each)
        print(json.dumps(each), flush=True)
    table = as_table(rows)
    print(table, file=sys.stderr)
    if out := os.environ.get("BENCH_OUT"):
        Path(out).mkdir(parents=True, exist_ok=True)
        Path(out, "fleet.txt").write_text(table)
        Path(out, "fleet.svg").write_text(as_svg(rows))
    sys.exit(0 if all(each["met"] is not False for each in rows) else 1)


def one_size(nodes: str, portfolios: str, seconds: str = str(SECONDS)) -> Iterator[dict[str, Any]]:
    """Yield the rows of one size."""
    with a_house() as house:
        yield from measured(house, int(nodes), int(portfolios), float(seconds))


def every_size() -> Iterator[dict[str, Any]]:
    """Yield the rows of SIZES. A process for each: Django takes one database for its life."""
    quietly = {name: value for name, value in os.environ.items() if name != "BENCH_OUT"}
    for size in SIZES:
        command = [sys.executable, "-m", "bench.fleet", *map(str, size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=quietly) as one:
            assert one.stdout is not None
            try:
                yield from map(json.loads, one.stdout)
            finally:
                one.terminate()
        if one.returncode not in (0, 1):
            raise SystemExit(f"{size[0]} nodes, {size[1]} portfolios: ended with {one.returncode}")


def measured(
    house: FleetHouse, nodes: int, portfolios: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one size."""
    say(f"{nodes} nodes, {portfolios} portfolios: starting PostgreSQL and the web process")
    house.start_database()
    tokens = house.create_nodes(nodes)
    house.start_web()
    rest, looks, losses, away = asyncio.run(lived(house, tokens, portfolios, seconds))
    path = f"{nodes} nodes, {portfolios} portfolios"
    yield from rows_at_rest(path, rest, looks)
    yield from rows_of_losses(path, losses)
    yield row(path, "web killed to answering again", away.back_s, "s")
    yield row(path, "web killed to every node heard", away.heard_s, "s")
    yield row(path, "nodes lost by it", away.lost, "", target="0", met=away.lost == 0)


@dataclass(frozen=True, slots=True)
class Rest:
    """A fleet that nothing happens to."""

    seconds: float
    beats_s: list[float]
    commits_s: list[float]
    refused: list[str]
    cpu: dict[str, float]  #: cores
    rss_mb: dict[str, float]
    load: float


@dataclass(frozen=True, slots=True)
class Loss:
    """One node that was killed; seconds from its mark `lost`."""

    portfolios: int
    noticed_s: float  #: from the kill to the mark
    looked_ms: float
    plan_ms: float  #: of the plan alone
    planned_s: float
    requested_s: float
    granted_s: float
    committed_s: float
    cpu_s: dict[str, float]  #: what each part used from the kill to the last commit


@dataclass(frozen=True, slots=True)
class Away:
    """The web process was killed and started again; seconds from the kill."""

    back_s: float  #: it answers
    heard_s: float  #: every node's beat was answered
    lost: int  #: nodes that were lost by it


async def lived(
    house: FleetHouse, tokens: list[tuple[str, str]], portfolios: int, seconds: float
) -> tuple[Rest, dict[str, list[float]], list[Loss], Away]:
    """Let the fleet live: load it, leave it alone, lose nodes, take the web process away."""
    tally = Tally()
    fleet = [
        SimulatedNode(
            NodeConfig(
                name=name,
                server=house.address.url,
                token=token,
                capacity=max(5, int(CAPACITY * 1.1 * portfolios / len(tokens)) + 1),
                labels={"zone": f"z{number % zones(len(tokens))}"},
            ),
            known(),
            tally,
        )
        for number, (name, token) in enumerate(tokens)
    ]
    began = time.monotonic()
    await registered(fleet)
    try:
        say("loading portfolios")
        held = await asyncio.to_thread(house.load_portfolios, portfolios, len(fleet))
        for node in fleet:
            node.adopt(held.get(node.config.name, {}))
        await told(house, fleet)
        house.start_watcher()
        # Nobody is judged until the gateway has served for one lease.
        ttl_s = float(os.environ.get("GINKGO_LEASE_TTL_S", 30))
        await settled(house, tally, began + ttl_s + 2)
        rest = await at_rest(house, tally, seconds)
        looks = await asyncio.to_thread(looked)
        losses = []
        with house.connection() as db:
            for number in range(min(LOSSES, len(fleet) // 3)):
                victim = fleet.pop(len(fleet) // 2)
                losses.append(await killed(house, db, victim))
                say(f"loss {number + 1}: all granted {losses[-1].granted_s:.2f} s after the mark")
            if tally.refused:
                say(f"without a good answer: {len(tally.refused)}, the first: {tally.refused[0]}")
            away = await without_web(house, db, fleet, ttl_s)
        return rest, looks, losses, away
    finally:
        await asyncio.gather(*(node.kill() for node in fleet), return_exceptions=True)


def known() -> dict[str, dict[str, Any]]:
    """Return the strategies and feeds that every node has."""
    from portfolios.feeds import open_feed
    from portfolios.strategies import registry

    feed = open_feed()
    return {"strategies": registry.versions(), "feeds": {feed.name: feed.sha256}}


async def registered(fleet: list[SimulatedNode]) -> None:
    """Register all, a few at a time."""
    gate, done, began = asyncio.Semaphore(AT_ONCE), 0, time.monotonic()

    async def one(node: SimulatedNode) -> None:
        nonlocal done
        async with gate:
            await node.start()
        done += 1
        if done % 100 == 0 or done == len(fleet):
            say(f"{done} of {len(fleet)} nodes registered, {time.monotonic() - began:.0f} s")

    await asyncio.gather(*(one(node) for node in fleet))


async def told(house: FleetHouse, fleet: list[SimulatedNode]) -> None:
    """Let all hear what they hold, some at a time: no fleet hears of all it has within a second."""
    for first in range(0, len(fleet), AT_ONCE):
        some = fleet[first : first + AT_ONCE]
        before = {node: node.desired.version if node.desired else 0 for node in some}
        await asyncio.to_thread(house.touch, [node.config.name for node in some])
        for node in some:
            node.beat_now()
        while any(node.desired is None or node.desired.version <= before[node] for node in some):
            await asyncio.sleep(0.02)


async def settled(house: FleetHouse, tally: Tally, until: float) -> None:
    """Return when it is late enough, the watcher has made a whole pass and all is answered."""
    while True:
        tally.clear()
        await asyncio.sleep(2)
        with house.connection() as db:
            ran = db.execute(
                "SELECT 1 FROM scheduling_passlock WHERE failover_ran_at IS NOT NULL"
            ).fetchone()
        if ran and time.monotonic() > until and not tally.refused:
            return
        say(
            f"settling, {max(until - time.monotonic(), 0):.0f} s left,"
            f" {len(tally.refused)} of {len(tally.refused) + len(tally.beats_s)} beats unanswered"
        )


async def at_rest(house: FleetHouse, tally: Tally, seconds: float) -> Rest:
    """Leave the fleet alone and return what it cost."""
    say(f"at rest for {seconds:g} s")
    tally.clear()
    before, began = house.cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    took, after = time.monotonic() - began, house.cpu_s()
    return Rest(
        seconds=took,
        beats_s=sorted(tally.beats_s),
        commits_s=sorted(tally.commits_s),
        refused=list(tally.refused),
        cpu={name: (after[name] - before[name]) / took for name in before},
        rss_mb={name: house.rss_mb(name) for name in ("web", "watcher")},
        load=os.getloadavg()[0],
    )


def looked() -> dict[str, list[float]]:
    """Return what passes cost, measured by a process of their own."""
    say("looking at the fleet as a pass does")
    done = subprocess.run(
        [sys.executable, "-m", "bench.fleet_reads"], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


MARKED = """
SELECT id, status_since FROM scheduling_node WHERE name = %(name)s AND status = 'lost'
"""

#: Whatever was asked for since then; one that failed and was asked for anew counts with its last.
MOVED = """
SELECT max(requested_at) AS last_requested, max(granted_at) AS last_granted,
       max(activated_at) AS last_committed,
       (SELECT count(*) FROM scheduling_run r WHERE r.portfolio_id = ANY(%(held)s::bigint[])
        AND (r.node_id = %(node)s OR r.first_commit_at IS NULL)) AS left_behind
FROM scheduling_handoff
WHERE portfolio_id = ANY(%(held)s::bigint[]) AND requested_at >= %(since)s
"""


async def without_web(
    house: FleetHouse, db: psycopg.Connection[Any], fleet: list[SimulatedNode], ttl_s: float
) -> Away:
    """Kill the web process, and wait until nodes may be judged again."""
    say("killing the web process")
    killed_at = time.monotonic()
    await asyncio.to_thread(house.restart_web)
    back_s = time.monotonic() - killed_at
    deadline = time.monotonic() + LIMIT_S
    while (silent := sum(node.heard_at < killed_at for node in fleet)) and (
        time.monotonic() < deadline
    ):
        await asyncio.sleep(0.05)
    if silent:
        raise SystemExit(f"{silent} nodes were not heard for {LIMIT_S:g} s")
    heard_s = time.monotonic() - killed_at
    say(f"all heard after {heard_s:.1f} s; waiting until they may be judged")
    await asyncio.sleep(ttl_s + 5)
    still = {node.config.name for node in fleet}
    lost = [
        found.name
        for found in db.execute("SELECT name FROM scheduling_node WHERE status = 'lost'")
        if found.name in still
    ]
    return Away(back_s, heard_s, len(lost))


async def killed(house: FleetHouse, db: psycopg.Connection[Any], victim: SimulatedNode) -> Loss:
    """Kill one node and return how long everything took."""
    log = house.log("watcher")
    offset, held = log.stat().st_size, victim.holds
    killed_at, before = now_of(db), house.cpu_s()
    await victim.kill()
    marked = await until(db, MARKED, lambda found: found is not None, name=victim.config.name)
    since: datetime = marked.status_since
    moved = await until(
        db, MOVED, lambda found: not found.left_behind, node=marked.id, held=held, since=since
    )
    after = house.cpu_s()
    looked_ms, plan_ms, planned_at = plan_in(log, offset)
    return Loss(
        portfolios=len(held),
        noticed_s=(since - killed_at).total_seconds(),
        looked_ms=looked_ms,
        plan_ms=plan_ms,
        planned_s=(planned_at - since).total_seconds(),
        requested_s=(moved.last_requested - since).total_seconds(),
        granted_s=(moved.last_granted - since).total_seconds(),
        committed_s=(moved.last_committed - since).total_seconds(),
        cpu_s={name: after[name] - before[name] for name in before},
    )


def now_of(db: psycopg.Connection[Any]) -> datetime:
    """Return the one clock of the fleet."""
    found: datetime = db.execute("SELECT clock_timestamp() AS now").fetchone().now  # type: ignore[union-attr]
    return found


async def until(db: psycopg.Connection[Any], sql: str, is_there: Any, **params: Any) -> Any:
    """Ask ten times a second until the answer is the one that is waited for."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        found = db.execute(sql, params).fetchone()
        if is_there(found):
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"not after {LIMIT_S:g} s, the last answer: {found}")
        await asyncio.sleep(0.1)


def plan_in(log: Path, offset: int) -> tuple[float, float, datetime]:
    """Return ms of the look and of the plan, and when it was made: of the first plan with changes
    that the watcher tells of after `offset`."""
    with log.open() as lines:
        lines.seek(offset)
        for line in lines:
            if '"planned_ms"' in line:
                said = json.loads(line)
                at = datetime.fromisoformat(said["at"])
                return said["looked_ms"], said["planned_ms"], at
    raise SystemExit(f"the watcher told of no plan: {log.read_text()[-2000:]}")


# --- rows ----------------------------------------------------------------------------------------


def rows_at_rest(path: str, rest: Rest, looks: dict[str, list[float]]) -> Iterator[dict[str, Any]]:
    """Yield what a fleet costs that nothing happens to."""
    yield row(path, "load average of the machine", rest.load, "")
    yield row(path, "beats without a good answer", len(rest.refused), "", target="0",
              met=not rest.refused)  # fmt: skip
    for what, took in (("beats", rest.beats_s), ("commits", rest.commits_s)):
        if took:
            yield row(path, f"{what} a second", len(took) / rest.seconds, "/s")
            yield row(path, f"{what}: p50", at(took, 0.5) * 1e3, "ms", spread=shown(took, 1e3))
            yield row(path, f"{what}: p99", at(took, 0.99) * 1e3, "ms")
    for name, cores in rest.cpu.items():
        yield row(path, f"cpu of {name}", 100 * cores, "% of a core")
    for name, mb in rest.rss_mb.items():
        yield row(path, f"memory of {name}", mb, "MB")
    for key, name in (
        ("first", "observe, first look"),
        ("looks", "observe, nothing changed"),
        ("plans", "plan, nothing to do"),
        ("sweeps", "sweep, nothing to do"),
        ("urgent_sweeps", "sweep at a hint, nothing to do"),
    ):
        took = sorted(looks[key])
        yield row(path, name, at(took, 0.5), "ms", spread=shown(took))
    batched, single = sorted(looks["batched"]), sorted(looks["single"])
    yield row(
        path,
        "asking for the failover of one node, in batches",
        at(batched, 0.5),
        "ms",
        spread=shown(batched),
        against=at(single, 0.5),
        note="against one by one, both without their commits",
    )


def rows_of_losses(path: str, losses: list[Loss]) -> Iterator[dict[str, Any]]:
    """Yield p50 over the losses; what has a target is held to it by the worst."""
    for key, name, unit, target in (
        ("noticed_s", "killed to marked", "s", None),
        ("looked_ms", "observe, one node lost", "ms", None),
        ("plan_ms", "plan, one node lost", "ms", PLAN_TARGET_MS),
        ("planned_s", "mark to plan", "s", PLAN_TARGET_MS / 1e3),
        ("requested_s", "mark to all requested", "s", None),
        ("granted_s", "mark to all granted", "s", GRANTED_TARGET_S),
        ("committed_s", "mark to all committed elsewhere", "s", None),
    ):
        took = sorted(getattr(loss, key) for loss in losses)
        yield row(
            path,
            name,
            statistics.median(took),
            unit,
            spread=shown(took),
            target="" if target is None else f"<= {target:g} {unit}",
            met=None if target is None else took[-1] <= target,
            note=f"{losses[0].portfolios} portfolios on each" if key == "noticed_s" else "",
        )

    for name in losses[0].cpu_s:
        took = sorted(loss.cpu_s[name] for loss in losses)
        yield row(
            path, f"cpu of {name} for a loss", statistics.median(took), "s", spread=shown(took)
        )


def at(took: list[float], share: float) -> float:
    """Return the value below which this share of sorted values lies."""
    return took[min(int(len(took) * share), len(took) - 1)]


def shown(took: Iterable[float], times: float = 1) -> list[float]:
    """Return lowest and highest of sorted values."""
    values = list(took)
    return [round(values[0] * times, 3), round(values[-1] * times, 3)]


def say(sentence: str) -> None:
    """Tell who waits what is under way."""
    print(f"fleet: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
