"""The node daemon as a program: real processes, real sockets, real signals, a gateway in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from portfolios.runtime.state import decode_state
from tests.integration.fake_gateway import FakeGateway

ROOT = Path(__file__).resolve().parents[2]

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway() as fake:
        yield fake


@pytest.fixture
async def start(gateway: FakeGateway, tmp_path: Path) -> AsyncIterator[Start]:
    """Start daemons from a directory that is not the project's; kill what is left at the end."""
    started: list[asyncio.subprocess.Process] = []

    async def start_daemon(name: str = "node-1", **environment: str) -> asyncio.subprocess.Process:
        log = (tmp_path / f"{name}.log").open("ab")
        environment.setdefault("PYTHONPATH", str(ROOT))
        daemon = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "scheduling.node_daemon", "--name", name],
            *["--server", gateway.url],
            env={**os.environ, "GINKGO_NODE_TOKEN": name, **environment},
            cwd=tmp_path,
            stderr=log,
        )
        started.append(daemon)
        return daemon

    yield start_daemon
    for daemon in started:
        with contextlib.suppress(ProcessLookupError):
            daemon.kill()
        await daemon.wait()
    for log in tmp_path.glob("*.log"):
        sys.stderr.write(f"--- {log.name}\n{log.read_text()}")


def family(pid: int) -> list[psutil.Process]:
    """Return every process below `pid`."""
    return psutil.Process(pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def assert_canary_is_exact(gateway: FakeGateway, portfolio: int) -> None:
    """Compare the canary's digest with one computed straight from the feed."""
    run = gateway.runs[portfolio]
    first, last = run.commits[0].from_seq + 1, run.state_seq
    digest = b"\0" * 32
    for event in gateway.feed.read(first, last - first + 1):
        digest = hashlib.sha256(
            digest + f"{event.seq} {event.symbol} {event.close}".encode()
        ).digest()
    assert run.state is not None
    canary = decode_state(run.state).strategy.data
    assert (canary["gaps"], canary["duplicates"]) == (0, 0)
    assert canary["events"] == last - first + 1
    shown = canary["digest"]
    assert (shown.hex() if isinstance(shown, bytes) else shown) == digest.hex()
    position = first - 1
    for commit in run.commits:
        assert commit.from_seq == position
        position = commit.to_seq


async def test_it_registers_and_commits_every_event_in_order(
    gateway: FakeGateway, start: Start
) -> None:
    gateway.grant("node-1", 1)
    await gateway.want("node-1", gateway.entry(1, "run"))
    await start()
    await gateway.until(lambda: gateway.committed(1) > 150)
    assert gateway.registered[0][1].strategies["canary"] == 1
    assert gateway.runs[1].commits[0].from_seq == gateway.runs[1].commits[0].to_seq
    assert_canary_is_exact(gateway, 1)
