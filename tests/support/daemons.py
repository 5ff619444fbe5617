"""Start real node daemons against the fake gateway, and check their commits."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil

from chaos.harness.processes import still_running
from portfolios.runtime.state import decode_state
from tests.support.fake_gateway import FakeGateway

ROOT = Path(__file__).resolve().parents[2]
FAULTY = "chaos.faults.faulty_strategies"

Report = TypeVar("Report", bound=msgspec.Struct)
Daemon = asyncio.subprocess.Process
Start = Callable[..., Awaitable[Daemon]]
alive = still_running


class Daemons:
    """Node daemons, started outside the project directory."""

    def __init__(self, gateway: FakeGateway, directory: Path) -> None:
        self.gateway = gateway
        self.directory = directory
        self.started: list[Daemon] = []

    async def start(self, name: str = "node-1", **environment: str) -> Daemon:
        """Start a daemon; its token is its name."""
        with (self.directory / f"{name}.log").open("ab") as log:
            daemon = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "scheduling.node_daemon", "--name", name],
                *["--server", self.gateway.url],
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "GINKGO_NODE_TOKEN": name,
                    "GINKGO_NODE_CACHE": str(self.directory / "cache"),
                    "GINKGO_BATCH_LIMIT_S": "60",  # a batch may wait long for a processor
                    **environment,
                },
                cwd=self.directory,
                stderr=log,
            )
        self.started.append(daemon)
        return daemon

    async def end(self) -> None:
        """Kill all daemons and print their logs to stderr."""
        for daemon in self.started:
            with contextlib.suppress(ProcessLookupError):
                daemon.kill()
            await daemon.wait()
        for log in self.directory.glob("*.log"):
            sys.stderr.write(f"--- {log.name}\n{log.read_text()}")

    def log(self, name: str = "node-1") -> str:
        """Return what a daemon wrote to stderr."""
        return (self.directory / f"{name}.log").read_text()


def family(pid: int) -> list[psutil.Process]:
    """Return all descendants of `pid`."""
    return psutil.Process(pid).children(recursive=True)


def reports(gateway: FakeGateway, kind: type[Report]) -> list[Report]:
    """Return the reports of one kind in order, including repeats."""
    return [report for _, report in gateway.reports if isinstance(report, kind)]


async def awaited_reports(gateway: FakeGateway, kind: type[Report], count: int = 1) -> list[Report]:
    """Wait until there are `count` reports of one kind, and return them in order."""
    await gateway.until(lambda: len(reports(gateway, kind)) >= count)
    return reports(gateway, kind)


def assert_canary_is_exact(gateway: FakeGateway, portfolio: int) -> None:
    """Assert that commits tile and that the digest equals the one computed from the feed."""
    run = gateway.runs[portfolio]
    position = run.commits[0].from_seq
    for commit in run.commits:
        assert commit.from_seq == position
        position = commit.to_seq
    first, last = run.commits[0].from_seq + 1, run.state_seq
    digest = b"\0" * 32
    for event in gateway.feed.read(first, last - first + 1):
        line = f"{event.seq} {event.symbol} {event.close}"
        digest = hashlib.sha256(digest + line.encode()).digest()
    assert run.state is not None
    canary = decode_state(run.state).strategy.data
    assert (canary["gaps"], canary["duplicates"]) == (0, 0)
    assert canary["events"] == last - first + 1
    shown = canary["digest"]
    assert (shown.hex() if isinstance(shown, bytes) else shown) == digest.hex()


async def run_canary(
    gateway: FakeGateway, daemons: Daemons, events: int = 30, /, **environment: str
) -> Daemon:
    """Start node-1 with canary 1, and return its daemon after more than `events` events."""
    gateway.grant("node-1", 1)
    await gateway.want("node-1", gateway.entry(1, "run"))
    daemon = await daemons.start(**environment)
    await gateway.until(lambda: gateway.committed(1) > events)
    return daemon


async def continue_for(gateway: FakeGateway, events: int = 50, portfolio: int = 1) -> None:
    """Wait until the portfolio has committed more than `events` further events."""
    seen = gateway.committed(portfolio)
    await gateway.until(lambda: gateway.committed(portfolio) > seen + events)


def pids_of(gateway: FakeGateway) -> list[int]:
    """Return the pids of portfolio processes that the heartbeats have named, oldest first."""
    named = [a.pid for _, beat in gateway.beats for a in beat.portfolios if a.pid is not None]
    return list(dict.fromkeys(named))
