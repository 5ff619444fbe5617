"""Neighbours of one hostile token: `bin/bench hostile [SECONDS] [ATTACK …]`.

A real web process on a real database. Four honest nodes of five portfolios each commit every 250 ms
and beat every 2 s, repeating what gets no answer as a daemon does; beside them a process of its own
does one attack after the other with the token of a fifth node. One JSON row an attack: the longest
gap between two answered commits of an honest node, how often a beat was lost, what the web process
weighs, and what the attacker was answered. Over TARGET_MS the bench ends with 1.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bench.commit import Node, prepare_ours, some_state
from bench.fleet_house import FleetHouse
from chaos.harness.hostile_node import ATTACKS, start_attack
from scheduling.wire.messages import CommitAnswers, Heartbeat, encode

TARGET_MS = 1_000
HONEST, PORTFOLIOS = 4, 5
COMMIT_EVERY_S, BEAT_EVERY_S = 0.25, 2.0
TIMEOUT = aiohttp.ClientTimeout(total=8)
QUIET_S = 2.0  #: between two attacks, for what is still under way

Ask = Callable[[str, Any], Awaitable[int]]


# --- the honest nodes ----------------------------------------------------------------------------


class Honest:
    """One node that commits and beats, and what it saw."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.gaps: list[float] = []
        self.lost_beats = 0
        self._answered_at = time.monotonic()

    def forget(self) -> None:
        """Begin to measure."""
        self.gaps, self.lost_beats = [], 0
        self._answered_at = time.monotonic()

    def longest_ms(self) -> float:
        """Return the longest gap, the one that has not ended included."""
        return 1e3 * max([*self.gaps, time.monotonic() - self._answered_at])

    async def commit(self, ask: Ask, states: list[bytes]) -> None:
        """Commit until the task is cancelled."""
        while True:
            began = time.monotonic()
            body = self.node.request(states)
            while await ask("commit", body) != 200:
                await asyncio.sleep(0.1)
            self.node.seq += 1
            now = time.monotonic()
            self.gaps.append(now - self._answered_at)
            self._answered_at = now
            await asyncio.sleep(max(0.0, COMMIT_EVERY_S - (now - began)))

    async def beat(self, ask: Ask) -> None:
        """Send heartbeats until the task is cancelled."""
        while True:
            words = Heartbeat(incarnation=str(self.node.incarnation), have_version=10**9)
            self.lost_beats += await ask("heartbeat", encode(words)) != 200
            await asyncio.sleep(BEAT_EVERY_S)


def asking(session: aiohttp.ClientSession, token: str) -> Ask:
    """Return how an honest node asks: the status, or 0 where no answer came."""

    async def ask(path: str, body: bytes) -> int:
        try:
            async with session.post(
                f"/api/agent/{path}/", data=body, headers={"Authorization": f"Bearer {token}"}
            ) as response:
                data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0
        if path == "commit" and response.status == 200:
            answers = msgspec.msgpack.decode(data, type=CommitAnswers)
            wrong = [r for r in answers.results if r.answer != "ok"]
            if wrong:
                raise SystemExit(f"a commit was not accepted: {wrong[0]}")
        return response.status

    return ask


async def measured(house: FleetHouse, cast: list[Node], seconds: float, names: list[str]) -> bool:
    """Do the attacks one after the other and print a row for each. Return whether all went well."""
    hostile, honest = cast[0], [Honest(node) for node in cast[1:]]
    states = [some_state(n) for n in range(8)]
    met = True
    async with aiohttp.ClientSession(house.address.url, timeout=TIMEOUT) as session:
        tasks = []
        for each in honest:
            ask = asking(session, each.node.token)
            tasks += [each.commit(ask, states), each.beat(ask)]
        running = [asyncio.create_task(task) for task in tasks]
        await asyncio.sleep(2)
        for name in ["none", *names]:
            for each in honest:
                each.forget()
            before_mb = peak_mb = house.rss_mb("web")
            attacker = None
            if name != "none":
                who = (hostile.token, str(hostile.incarnation))
                attacker = start_attack(name, house.address.url, *who, seconds)
            until = time.monotonic() + seconds
            while time.monotonic() < until or (attacker and attacker.poll() is None):
                peak_mb = max(peak_mb, house.rss_mb("web"))
                await asyncio.sleep(0.05)
            longest = max(each.longest_ms() for each in honest)
            gaps = sorted(gap for each in honest for gap in each.gaps)
            row = {
                "path": f"one hostile token beside {HONEST} honest nodes",
                "name": name,
                "value": round(longest),
                "unit": "ms, longest gap between commits of a neighbour",
                "p99_ms": round(1e3 * gaps[int(len(gaps) * 0.99)]) if gaps else None,
                "lost_beats": sum(each.lost_beats for each in honest),
                "web_mb": round(before_mb),
                "web_peak_mb": round(peak_mb),
                "attacker": json.loads(attacker.communicate()[0] or "{}") if attacker else {},
                "against": "target",
                "ratio": round(longest / TARGET_MS, 2),
                "met": longest < TARGET_MS,
            }
            met = met and bool(row["met"])
            print(json.dumps(row), flush=True)
            await asyncio.sleep(QUIET_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return met


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    names = [name for name in ATTACKS if any(word in name for word in sys.argv[2:] or [""])]
    home = Path(tempfile.mkdtemp(prefix="ginkgo-bench-"))
    home.chmod(0o755)
    house = FleetHouse(home)
    house.start_database()
    os.environ.setdefault("GINKGO_LOG_LEVEL", "warning")
    try:
        cast = prepare_ours(HONEST + 1, PORTFOLIOS)
        house.start_web()
        met = asyncio.run(measured(house, cast, seconds, names))
    finally:
        house.stop()
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
