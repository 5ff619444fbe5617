"""Artifacts on a node daemon: fetched in prepare, cached, restarted from the same bytes."""

from __future__ import annotations

import psutil

from portfolios.runtime.state import decode_state
from scheduling.wire import messages as wire
from tests.support import wheels
from tests.support.daemons import Daemons, reports
from tests.support.fake_gateway import FakeGateway


def offer(gateway: FakeGateway, wheel: wheels.Wheel) -> str:
    """Have the gateway serve a wheel; return its hash."""
    data = wheel.data()
    gateway.files[wheels.sha256_of(data)] = data
    return wheels.sha256_of(data)


def mark_of(gateway: FakeGateway, portfolio: int) -> str | None:
    """Return which version of the strategy has written the newest state of a portfolio."""
    state = gateway.runs[portfolio].state
    return None if state is None else decode_state(state).strategy.data.get("mark")


async def test_two_versions_of_one_package_run_side_by_side_and_restart_from_the_same_bytes(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    shas = {1: offer(gateway, wheels.counter("old")), 2: offer(gateway, wheels.counter("new"))}
    for portfolio in shas:
        gateway.grant("node-1", portfolio)
    await gateway.want(
        "node-1",
        *(gateway.entry(p, "run", strategy="counter", artifact=sha) for p, sha in shas.items()),
    )
    daemon = await daemons.start()
    await gateway.until(lambda: mark_of(gateway, 1) == "old" and mark_of(gateway, 2) == "new")
    gateway.files.clear()
    before = gateway.committed(1)
    (pid,) = {p.pid for _, b in gateway.beats for p in b.portfolios if p.portfolio == 1 and p.pid}
    psutil.Process(pid).kill()
    await gateway.until(lambda: reports(gateway, wire.ProcessExited) != [])
    await gateway.until(lambda: gateway.committed(1) > before + 100)
    assert mark_of(gateway, 1) == "old"
    assert sorted(gateway.fetched) == sorted(shas.values())  # each once
    assert daemon.returncode is None
