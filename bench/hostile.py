"""Neighbours of one hostile token: `bin/bench hostile [SECONDS] [ATTACK …]`.

A real web process on a real database. Four honest nodes of five portfolios each commit every 250 ms
and beat every 2 s, repeating what gets no answer as a daemon does; beside them a process of its own
does one attack after the other with the token of a fifth node. One JSON row an attack: the longest
gap between two answered commits of an honest node, how often a beat was lost, what the web process
weighs, and what the attacker was answered. Over TARGET_MS the bench ends with 1.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bench.commit import Node, prepare_ours, some_state
from bench.fleet_house import FleetHouse
from scheduling.wire.messages import (
    MOST_COMMITS,
    MOST_REPORTS,
    Beat,
    CommitAnswers,
    Prepared,
    encode,
)

TARGET_MS = 1_000
HONEST, PORTFOLIOS = 4, 5
COMMIT_EVERY_S, BEAT_EVERY_S = 0.25, 2.0
TIMEOUT = aiohttp.ClientTimeout(total=8)
QUIET_S = 2.0  #: between two attacks, for what is still under way

Ask = Callable[[str, Any], Awaitable[int]]


# --- the attacker, in a process of its own -------------------------------------------------------


def _commits(count: int, **given: Any) -> list[dict[str, Any]]:
    """Return commits of portfolios that are not the attacker's."""
    first = {"portfolio": 10**9, "epoch": 1, "from_seq": 0, "to_seq": 1}
    return [
        {**first, "portfolio": 10**9 + n, "batch": str(uuid.uuid4()), **given} for n in range(count)
    ]


def _request(incarnation: str, commits: list[dict[str, Any]]) -> bytes:
    return msgspec.msgpack.encode({"incarnation": incarnation, "commits": commits})


def _duplicates(incarnation: str) -> bytes:
    """919 kB: the last portfolio is named twice."""
    commits = _commits(8_200)
    return _request(incarnation, [*commits, commits[-1]])


def _one_bad(incarnation: str, count: int) -> bytes:
    """Only the driver finds the bad value of the last commit."""
    commits = _commits(count)
    commits[-1] |= {"orders": [[1, 0, "A\0B", "buy", "1", "1", "open", "", 1]]}
    return _request(incarnation, commits)


def _dense(incarnation: str) -> bytes:
    """17 MB of the shortest lines."""
    return _request(incarnation, _commits(200, orders=[[1, 1, "", "", "", "", "", "", 1]] * 8_000))


def _beat(incarnation: str, reports: int) -> bytes:
    words = Beat(
        incarnation=incarnation,
        have_version=0,
        reports=[Prepared(handoff=10**9 + n) for n in range(reports)],
    )
    return encode(words)


async def _repeat(parallel: int, until: float, once: Callable[[], Awaitable[Any]]) -> None:
    async def one() -> None:
        while time.monotonic() < until:
            await once()

    await asyncio.gather(*(one() for _ in range(parallel)))


async def _held_body(size: int) -> Any:
    """Send all of a body but its end, and wait."""

    async def chunks() -> Any:
        for _ in range(size // 1_000_000 - 1):
            yield b"\0" * 1_000_000
        await asyncio.sleep(60)

    return chunks()


#: Name → requests at once, path, body.
ATTACKS: dict[str, tuple[int, str, Callable[[str], bytes]]] = {
    "one commit request of 919 kB, a portfolio twice": (1, "commit", _duplicates),
    "5 beats at once, 6,000 reports each": (5, "heartbeat", lambda i: _beat(i, 6_000)),
    "5 beats at once, as many reports as are taken": (
        5,
        "heartbeat",
        lambda i: _beat(i, MOST_REPORTS),
    ),
    "2,000 commits with one bad value": (1, "commit", lambda i: _one_bad(i, 2_000)),
    "as many commits as are taken with one bad value": (
        5,
        "commit",
        lambda i: _one_bad(i, MOST_COMMITS),
    ),
    "20 bodies of 31 MB, held back": (20, "commit", lambda _: b""),
    "17 MB of the shortest lines": (5, "commit", _dense),
    "50 connections, the smallest beats": (50, "heartbeat", lambda i: _beat(i, 0)),
    "50 connections, tokens that are none": (50, "checkpoint", lambda _: b""),
}


async def attack(name: str, address: str, token: str, incarnation: str, seconds: float) -> None:
    """Do one attack for so long; print how often each status was the answer."""
    parallel, path, make = ATTACKS[name]
    body = make(incarnation)
    said: collections.Counter[str] = collections.Counter()
    until = time.monotonic() + seconds
    guesses = name.endswith("none")
    held = name.endswith("held back")
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=seconds if held else 60)
    async with aiohttp.ClientSession(address, connector=connector, timeout=timeout) as session:

        async def once() -> None:
            who = uuid.uuid4().hex if guesses else token
            data = await _held_body(31_000_000) if held else body
            headers = {"Authorization": f"Bearer {who}"}
            if held:
                headers["Content-Length"] = "31000000"
            try:
                async with session.post(
                    f"/api/agent/{path}/", data=data, headers=headers
                ) as response:
                    await response.read()
                    said[str(response.status)] += 1
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                said[type(error).__name__] += 1
                await asyncio.sleep(0.01)

        async with asyncio.timeout(seconds + 30):
            await _repeat(parallel, until, once)
    print(json.dumps(said))


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
        """Commit for ever."""
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
        """Beat for ever."""
        while True:
            words = Beat(incarnation=str(self.node.incarnation), have_version=10**9)
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
            attacker = None if name == "none" else start_attack(house, name, hostile, seconds)
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


def start_attack(
    house: FleetHouse, name: str, hostile: Node, seconds: float
) -> subprocess.Popen[str]:
    """Start the attacker's process."""
    argv = [sys.executable, "-m", "bench.hostile", "attack", name, house.address.url]
    argv += [hostile.token, str(hostile.incarnation), str(seconds)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def main() -> None:
    if sys.argv[1:2] == ["attack"]:
        name, address, token, incarnation, seconds = sys.argv[2:]
        asyncio.run(attack(name, address, token, incarnation, float(seconds)))
        return
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
