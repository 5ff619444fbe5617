"""Measure the neighbours of a hostile node: `bin/bench hostile [SECONDS] [ATTACK …]`.

Runs a real web process on a real database. Four honest nodes with five portfolios each commit every
250 ms and send a heartbeat every 2 s, and repeat unanswered requests as a daemon does. Meanwhile a
separate process runs one attack after another with the token of a fifth node. One JSON row per
attack: the longest gap between two answered commits of an honest node, the number of lost
heartbeats, the memory of the web process, and the responses to the attacker. Exits 1 if a gap
exceeds TARGET_MS.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import psutil

from bench.commit import PORT, Node, own_database, prepare_ginkgo, wait_until_listening, web_process
from chaos.harness.hostile_node import ATTACKS, start_attack
from ginkgo_site.launcher.web import LIMIT_ARGUMENTS
from scheduling.wire.messages import CommitAnswers, Heartbeat, encode

TARGET_MS = 1_000
HONEST, PORTFOLIOS = 4, 5
COMMIT_EVERY_S, BEAT_EVERY_S = 0.25, 2.0
TIMEOUT = aiohttp.ClientTimeout(total=8)
QUIET_S = 2.0  #: pause between two attacks, in which pending requests end

Post = Callable[[str, Any], Awaitable[int]]


# --- the honest nodes ----------------------------------------------------------------------------


class HonestNode:
    """A node that commits and sends heartbeats, and its measurements."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.reset()

    def reset(self) -> None:
        """Reset the measurements."""
        self.gaps: list[float] = []  #: seconds between two answered commits
        self.lost_heartbeats = 0
        self._answered_at = time.monotonic()

    def longest_ms(self) -> float:
        """Return the longest time between two answered commits, or since the last one, in ms."""
        return 1e3 * max([*self.gaps, time.monotonic() - self._answered_at])

    async def send_commits(self, post: Post) -> None:
        """Commit until the task is cancelled."""
        while True:
            began = time.monotonic()
            body = self.node.commits()
            while await post("commit", body) != 200:
                await asyncio.sleep(0.1)
            self.node.seq += 1
            now = time.monotonic()
            self.gaps.append(now - self._answered_at)
            self._answered_at = now
            await asyncio.sleep(max(0.0, COMMIT_EVERY_S - (now - began)))

    async def send_heartbeats(self, post: Post) -> None:
        """Send heartbeats until the task is cancelled."""
        while True:
            # A version newer than any, so that no answer carries a desired set.
            message = Heartbeat(incarnation=str(self.node.incarnation), have_version=10**9)
            status = await post("heartbeat", encode(message))
            self.lost_heartbeats += status != 200  # not before the answer: `reset` may come first
            await asyncio.sleep(BEAT_EVERY_S)


def poster(session: aiohttp.ClientSession, token: str) -> Post:
    """Return a function that posts as an honest node. It returns the status, 0 to repeat it."""

    async def post(path: str, body: bytes) -> int:
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
            if len(answers.results) < PORTFOLIOS:
                return 0  # the row of one is locked: a daemon repeats its commit
        return response.status

    return post


async def measure(web: psutil.Process, nodes: list[Node], seconds: float, names: list[str]) -> bool:
    """Run the attacks one after another, and print a row for each.

    Return whether every longest gap was below TARGET_MS.
    """
    hostile, honest = nodes[0], [HonestNode(node) for node in nodes[1:]]
    met = True
    url = f"http://127.0.0.1:{PORT}"
    await wait_until_listening()
    async with aiohttp.ClientSession(url, timeout=TIMEOUT) as session:
        tasks = []
        for each in honest:
            post = poster(session, each.node.token)
            tasks += [each.send_commits(post), each.send_heartbeats(post)]
        running = [asyncio.create_task(task) for task in tasks]
        await asyncio.sleep(2)
        for name in ["none", *names]:
            for each in honest:
                each.reset()
            before_mb = peak_mb = _rss_mb(web)
            attacker = None
            if name != "none":
                credentials = (hostile.token, str(hostile.incarnation))
                attacker = start_attack(name, url, *credentials, seconds)
            until = time.monotonic() + seconds
            while time.monotonic() < until or (attacker and attacker.poll() is None):
                peak_mb = max(peak_mb, _rss_mb(web))
                await asyncio.sleep(0.05)
            longest = max(each.longest_ms() for each in honest)
            gaps = sorted(gap for each in honest for gap in each.gaps)
            row = {
                "path": f"one hostile token beside {HONEST} honest nodes",
                "name": name,
                "value": round(longest),
                "unit": "ms, longest gap between commits of a neighbour",
                "p99_ms": round(1e3 * gaps[int(len(gaps) * 0.99)]) if gaps else None,
                "lost_beats": sum(each.lost_heartbeats for each in honest),
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


def _rss_mb(process: psutil.Process) -> float:
    return process.memory_info().rss / 1e6


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    words = sys.argv[2:] or [""]  # parts of names; "" is a part of every name
    names = [name for name in ATTACKS if any(word in name for word in words)]
    if not names:
        sys.exit(f"There is no such attack; there are: {', '.join(ATTACKS)}.")
    os.environ.setdefault("GINKGO_LOG_LEVEL", "warning")
    with own_database():
        nodes = prepare_ginkgo(HONEST + 1, PORTFOLIOS)
        with web_process("ginkgo_site.asgi:application", *LIMIT_ARGUMENTS) as web:
            met = asyncio.run(measure(psutil.Process(web.pid), nodes, seconds, names))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
