"""Start of portfolio processes: a fixed hash seed, no secrets, no foreign sockets, a time limit."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from chaos.harness.installation import SLOW_MACHINE_S
from chaos.harness.processes import still_running
from portfolios.runtime.messages import Load
from scheduling.node_daemon.child import Child, start_child
from scheduling.node_daemon.errors import ChildFailed, ForkserverDied
from scheduling.node_daemon.forkserver import LIST
from scheduling.node_daemon.forkserver_client import (
    ForkserverClient,
    PackageEnvironment,
    _child_environment,
)
from tests.support.market_factories import spec


@pytest.fixture
async def forkserver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ForkserverClient]:
    """A separate forkserver whose children have strategies that loop."""
    monkeypatch.setenv("GINKGO_STRATEGIES", "tests.support.strategies.never_ready")
    monkeypatch.setenv("GINKGO_NODE_TOKEN", "a-secret")
    made = ForkserverClient(512)
    made.launch()
    listening = asyncio.create_task(made.listen())
    yield made
    listening.cancel()
    made.close()


def test_child_environment_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "GINKGO_NODE_TOKEN", "AWS_SECRET_ACCESS_KEY", "UV_INDEX_URL"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("GINKGO_STRATEGY_HIDES", "/a")
    assert _child_environment("/opt/token")["GINKGO_STRATEGY_HIDES"] == "/a:/opt/token"
    kept = _child_environment()
    assert kept["PYTHONHASHSEED"] == "0"
    assert not [name for name in kept if kept[name] == "x"]


async def test_a_load_that_takes_longer_than_its_limit_ends_its_process(
    forkserver: ForkserverClient,
) -> None:
    child = await start_child(forkserver, "slow")
    process = psutil.Process(child.pid)
    with pytest.raises(ChildFailed) as late:
        await child.load(Load(spec("looping"), None, 0), 1.0)
    assert (late.value.stage, str(late.value)) == (
        "killed",
        "a load took longer than its limit of 1 s: let the strategy do less when it is made or "
        "adapts its state",
    )
    async with asyncio.timeout(SLOW_MACHINE_S):
        await child.wait_for_end()
    assert not still_running([process])


async def test_child_has_only_its_own_socket_and_leads_its_process_group(
    forkserver: ForkserverClient,
) -> None:
    first = await start_child(forkserver, "first")
    second = await start_child(forkserver, "second")
    for child in (first, second):
        # Until then it is being set up.
        await child.load(Load(spec("canary"), None, 0), SLOW_MACHINE_S)
        folder = f"/proc/{child.pid}/fd"
        held = {int(fd): os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}
        assert held[0] == os.devnull
        assert held[1].startswith("pipe:") and held[1] == held[2]
        others = [name for fd, name in held.items() if fd > 2]
        assert sorted(name.partition(":")[0] for name in others) in (
            [f"/proc/{child.pid}", "socket"],
            ["socket"],  # a kernel without Landlock
        )
        assert (os.getpgid(child.pid), os.getsid(child.pid)) == (child.pid, child.pid)
        assert b"a-secret" not in Path(f"/proc/{child.pid}/environ").read_bytes()
        child.kill()


async def test_forkserver_ignores_termination_signals(forkserver: ForkserverClient) -> None:
    child = await start_child(forkserver, "child")
    server = psutil.Process(psutil.Process(child.pid).ppid())
    for number in (2, 15):
        server.send_signal(number)
    again = await start_child(forkserver, "again")
    assert psutil.Process(again.pid).ppid() == server.pid
    for born in (child, again):
        born.kill()


async def test_forkserver_that_a_package_ends_starts_again_without_it(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    module = "tests.support.strategies.ends_on_import"
    environment = PackageEnvironment("e" * 64, Path(sys.executable), (module,), tmp_path)
    made = ForkserverClient(512, environment=environment)
    made.launch()
    listening = asyncio.create_task(made.listen())
    try:
        with pytest.raises(ForkserverDied):
            await start_child(made, "first")
        async with asyncio.timeout(SLOW_MACHINE_S):
            while (second := await _started(made)) is None:
                await asyncio.sleep(0.05)
        await second.load(Load(spec("canary"), None, 0), SLOW_MACHINE_S)
    finally:
        listening.cancel()
        made.close()
    assert "the forkserver of environment eeeeeeeeeeee ended" in caplog.text


async def _started(forkserver: ForkserverClient) -> Child | None:
    """Return a started process, or None while the forkserver is being replaced."""
    try:
        return await start_child(forkserver, "next")
    except ForkserverDied:
        return None


async def test_strategies_are_listed_by_a_process_that_exits(forkserver: ForkserverClient) -> None:
    sock, born = forkserver.spawn(LIST, "strategies")
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    found = json.loads(await reader.read())
    writer.close()
    assert "looping" in found["versions"]
    assert await born.status == 0
