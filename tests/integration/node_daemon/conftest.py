"""Daemons that the tests of a module share, since each costs a second of processor time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chaos.harness.installation import SLOW_MACHINE_S
from tests.support.daemons import FAULTY, Daemons
from tests.support.fake_gateway import FakeGateway

#: A test that says nothing else waits little for heartbeats, and its leases do not end.
QUIET = {"next_beat_s": 0.2, "ttl_s": 100 * SLOW_MACHINE_S}
STRATEGIES = f"{FAULTY},tests.support.strategies.every_order"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_daemons(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemons]:
    """Run node-1 against a gateway that outlives the test, as node-2 does once it is started."""
    async with FakeGateway() as gateway:
        gateway.behave(**QUIET)
        daemons = Daemons(gateway, tmp_path_factory.mktemp("shared"))
        await daemons.start(GINKGO_STRATEGIES=STRATEGIES)
        yield daemons
        await daemons.end()


@pytest_asyncio.fixture(loop_scope="module")
async def canary(shared_daemons: Daemons) -> int:
    """Return the number of a canary that runs on node-1, which runs nothing of the tests before."""
    gateway = shared_daemons.gateway
    gateway.behave(**QUIET)
    number = max(gateway.runs, default=0) + 1
    gateway.grant("node-1", number)
    await gateway.want("node-2")
    await gateway.want("node-1", gateway.entry(number, "run"))

    def runs_alone() -> bool:
        newest = dict(gateway.beats).get("node-1")
        return newest is not None and [p.portfolio for p in newest.portfolios] == [number]

    await gateway.until(lambda: gateway.committed(number) > 10 and "node-1" in gateway.sockets)
    gateway.reports.clear()
    gateway.beats.clear()
    await gateway.until(runs_alone)
    del gateway.beats[:-1]
    return number
