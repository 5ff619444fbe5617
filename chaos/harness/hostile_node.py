"""A hostile node with a valid token.

    python -m chaos.harness.hostile_node ATTACK URL TOKEN …

The attacks are requests that cost the gateway most, some at the largest size that is accepted. An
attack runs in its own process, so that its own cost is not measured as the cost of being attacked.
"""

from __future__ import annotations

import asyncio
import collections
import json
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec

from scheduling.wire.messages import (
    MAX_COMMITS,
    MAX_LOG_LINES,
    MAX_REPORTS,
    Halted,
    Heartbeat,
    LogLine,
    LogRequest,
    Prepared,
    Report,
    StreamLines,
    encode,
)


def _commits(count: int, **given: Any) -> list[dict[str, Any]]:
    """Return commits of portfolios that the attacker does not own."""
    first = {"portfolio": 10**9, "epoch": 1, "from_seq": 0, "to_seq": 1}
    return [
        {**first, "portfolio": 10**9 + n, "batch": str(uuid.uuid4()), **given} for n in range(count)
    ]


def _commit_request(incarnation: str, commits: list[dict[str, Any]]) -> bytes:
    return msgspec.msgpack.encode({"incarnation": incarnation, "commits": commits})


def _one_portfolio_twice(incarnation: str) -> bytes:
    """Return a request of 8,201 commits, far more than are taken, with one portfolio twice."""
    commits = _commits(8_200)
    return _commit_request(incarnation, [*commits, commits[-1]])


def _one_bad_value(incarnation: str, count: int) -> bytes:
    """Return commits of which the last has a value that only the database driver rejects."""
    commits = _commits(count)
    # An OrderLine, from seq to decided_us. PostgreSQL takes no NUL in a symbol.
    order = [1, 0, "A\0B", "buy", "1", "1", "open", "", 1]
    commits[-1] |= {"orders": [order]}
    return _commit_request(incarnation, commits)


def _shortest_order_lines(incarnation: str) -> bytes:
    """Return a commit request with 17 MB of the shortest possible order lines."""
    return _commit_request(
        incarnation, _commits(200, orders=[[1, 1, "", "", "", "", "", "", 1]] * 8_000)
    )


def _heartbeat(incarnation: str, reports: int) -> bytes:
    """Return a heartbeat with reports of handoffs that do not exist."""
    beat = Heartbeat(
        incarnation=incarnation,
        have_version=0,
        reports=[Prepared(handoff=10**9 + n) for n in range(reports)],
    )
    return encode(beat)


def _reports_of_others(incarnation: str) -> bytes:
    """Return a heartbeat with MAX_REPORTS reports, all of portfolios of other nodes."""
    reports: list[Report] = [
        Halted(portfolio=1 + n % 40, epoch=0, seq=0, age_s=1.0) for n in range(MAX_REPORTS)
    ]
    return encode(Heartbeat(incarnation=incarnation, have_version=0, reports=reports))


def _log_lines(incarnation: str) -> bytes:
    """Return MAX_LOG_LINES lines for the log of a portfolio that does not exist."""
    lines = [LogLine(age_ms=0, text="x" * 300)] * MAX_LOG_LINES
    stream = StreamLines(portfolio=10**9, epoch=1, handoff=None, lines=lines)
    return encode(LogRequest(incarnation, str(uuid.uuid4()), [stream]))


async def _repeat(parallel: int, until: float, once: Callable[[], Awaitable[Any]]) -> None:
    """Await `once` again and again, in `parallel` tasks, until a monotonic time."""

    async def one() -> None:
        while time.monotonic() < until:
            await once()

    await asyncio.gather(*(one() for _ in range(parallel)))


async def _body_without_end(size: int) -> AsyncIterator[bytes]:
    """Yield a body of `size` bytes except for its end, which never comes."""
    for _ in range(size // 1_000_000 - 1):
        yield b"\0" * 1_000_000
    await asyncio.sleep(60)


ANNOUNCED_BYTES = 31_000_000  #: the Content-Length of a body whose end is held back
#: Name → concurrent requests, path, function that returns the body for an incarnation.
ATTACKS: dict[str, tuple[int, str, Callable[[str], bytes]]] = {
    "one commit request of 919 kB, a portfolio twice": (1, "commit", _one_portfolio_twice),
    "5 beats at once, 6,000 reports each": (5, "heartbeat", lambda i: _heartbeat(i, 6_000)),
    "5 beats at once, as many reports as are taken":
        (5, "heartbeat", lambda i: _heartbeat(i, MAX_REPORTS)),
    "5 beats at once, reports of others' portfolios": (5, "heartbeat", _reports_of_others),
    "2,000 commits with one bad value": (1, "commit", lambda i: _one_bad_value(i, 2_000)),
    "as many commits as are taken with one bad value":
        (5, "commit", lambda i: _one_bad_value(i, MAX_COMMITS)),
    "20 bodies of 31 MB, held back": (20, "commit", lambda _: b""),
    "17 MB of the shortest lines": (5, "commit", _shortest_order_lines),
    "5 requests of as many lines as are taken": (5, "log", _log_lines),
    "50 connections, the smallest beats": (50, "heartbeat", lambda i: _heartbeat(i, 0)),
    "50 connections, invalid tokens": (50, "checkpoint", lambda _: b""),
}  # fmt: skip


async def attack(name: str, address: str, token: str, incarnation: str, seconds: float) -> None:
    """Run one attack for `seconds`. Print the number of responses by status."""
    parallel, path, make = ATTACKS[name]
    body = make(incarnation)
    responses: collections.Counter[str] = collections.Counter()
    until = time.monotonic() + seconds
    # These two attacks differ from the others in more than their body.
    guesses_token, withholds_end = name.endswith("invalid tokens"), name.endswith("held back")
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=seconds if withholds_end else 60)
    async with aiohttp.ClientSession(address, connector=connector, timeout=timeout) as session:

        async def once() -> None:
            """Send a request, and count its status, or the name of the error if there is none."""
            sent_token = uuid.uuid4().hex if guesses_token else token
            data = _body_without_end(ANNOUNCED_BYTES) if withholds_end else body
            headers = {"Authorization": f"Bearer {sent_token}"}
            if withholds_end:
                headers["Content-Length"] = str(ANNOUNCED_BYTES)
            try:
                async with session.post(
                    f"/api/agent/{path}/", data=data, headers=headers
                ) as response:
                    await response.read()
                    responses[str(response.status)] += 1
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                responses[type(error).__name__] += 1
                await asyncio.sleep(0.01)

        async with asyncio.timeout(seconds + 30):
            await _repeat(parallel, until, once)
    print(json.dumps(responses))


def start_attack(
    name: str, address: str, token: str, incarnation: str, seconds: float
) -> subprocess.Popen[str]:
    """Start an attack in its own process. It prints a JSON object: status → responses."""
    argv = [sys.executable, "-m", "chaos.harness.hostile_node", name, address, token, incarnation]
    return subprocess.Popen([*argv, str(seconds)], stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    _, chosen, url, token_, incarnation_, seconds_ = sys.argv
    asyncio.run(attack(chosen, url, token_, incarnation_, float(seconds_)))
