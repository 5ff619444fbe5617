"""Starting real daemons against a gateway in memory, and looking at what they did."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from portfolios.runtime.state import decode_state
from scheduling.wire import messages as wire
from tests.support.fake_gateway import FakeGateway

ROOT = Path(__file__).resolve().parents[2]
FAULTY = "chaos.faults.faulty_strategies"

Daemon = asyncio.subprocess.Process
Start = Callable[..., Awaitable[Daemon]]


class Daemons:
    """Daemons started from a directory that is not the project's."""

    def __init__(self, gateway: FakeGateway, directory: Path) -> None:
        self._gateway = gateway
        self._directory = directory
        self._started: list[Daemon] = []

    async def start(self, name: str = "node-1", **environment: str) -> Daemon:
        """Start a daemon; its token is its name."""
        with (self._directory / f"{name}.log").open("ab") as log:
            daemon = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "scheduling.node_daemon", "--name", name],
                *["--server", self._gateway.url],
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "GINKGO_NODE_TOKEN": name,
                    **environment,
                },
                cwd=self._directory,
                stderr=log,
            )
        self._started.append(daemon)
        return daemon

    async def end(self) -> None:
        """Kill what still runs and show what was logged."""
        for daemon in self._started:
            with contextlib.suppress(ProcessLookupError):
                daemon.kill()
            await daemon.wait()
        for log in self._directory.glob("*.log"):
            sys.stderr.write(f"--- {log.name}\n{log.read_text()}")

    def log(self, name: str = "node-1") -> str:
        """Return what a daemon wrote to stderr."""
        return (self._directory / f"{name}.log").read_text()


def family(pid: int) -> list[psutil.Process]:
    """Return every process below `pid`."""
    return psutil.Process(pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run."""
    return [p for p in processes if _is_alive(p)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two
        return False


def reports(gateway: FakeGateway, kind: type[wire.Report]) -> list[wire.Report]:
    """Return the reports of one kind, in order; a repeat counts again."""
    return [report for _, report in gateway.reports if isinstance(report, kind)]


def assert_canary_is_exact(gateway: FakeGateway, portfolio: int) -> None:
    """Compare the commits with a tiling, and the digest with one computed from the feed alone."""
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
