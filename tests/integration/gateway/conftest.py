"""A node with a token, and a gateway that knows no token yet."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import connections

from chaos.harness.installation import SLOW_MACHINE_S
from scheduling.gateway import auth
from scheduling.gateway.heartbeat import BATCHER
from scheduling.gateway.pool import close_pools, open_pools
from tests.support.factories import FakeNode
from tests.support.gateway_requests import admitted_node


@pytest.fixture(autouse=True)
def fresh_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the tokens and heartbeats of the test before, and do not delay rejections.

    A release waits for its connection as long as a slow machine takes to open it.
    """
    auth._cache.clear()
    BATCHER.drops.stored_nodes.clear()
    BATCHER.drops.dropped_nodes.clear()
    monkeypatch.setattr("scheduling.gateway.app.REJECTION_DELAY_S", 0.0)
    monkeypatch.setattr("scheduling.gateway.commits.RELEASE_WAIT_S", SLOW_MACHINE_S)


@pytest.fixture
async def open_gateway() -> AsyncIterator[None]:
    await open_pools()
    yield
    await close_pools()
    layer = get_channel_layer()
    assert layer is not None
    await layer.close()
    await database_sync_to_async(connections.close_all)()


@pytest.fixture
def node() -> FakeNode:
    return admitted_node("node-1")
