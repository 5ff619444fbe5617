"""Forkservers of environments: started on demand, ended when nothing uses them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psutil

from scheduling.node_daemon.child import start_child
from scheduling.node_daemon.clock import boottime_s
from scheduling.node_daemon.forkserver_client import ForkserverClient, PackageEnvironment
from scheduling.node_daemon.strategy_code import IDLE_FORKSERVER_S, StrategyCode

LATER_S = IDLE_FORKSERVER_S + 1


class NoGateway:
    """A client that nothing is fetched from."""

    artifact = environment_lock = None


async def test_forkserver_ends_some_time_after_its_last_process(tmp_path: Path) -> None:
    client: Any = NoGateway()
    code = StrategyCode(
        tmp_path, client, ForkserverClient(512), lambda e: ForkserverClient(512, environment=e)
    )
    environment = PackageEnvironment("e" * 64, Path(sys.executable), (), tmp_path)
    forkserver = code._forkserver(environment)
    assert code._forkserver(environment) is forkserver
    child = await start_child(forkserver, "child")
    server = psutil.Process(psutil.Process(child.pid).ppid())
    code.end_idle_forkservers(boottime_s() + LATER_S)
    assert server.is_running()  # a process of it runs
    child.kill()
    await child.wait_for_end()
    code.end_idle_forkservers(boottime_s())
    assert server.is_running()  # its last process has just ended
    code.end_idle_forkservers(boottime_s() + LATER_S)
    assert not server.is_running()
    assert code._forkserver(environment) is not forkserver
    code.close()
