"""A node with a token, and a gateway that knows no token yet."""

from __future__ import annotations

import pytest

from scheduling.gateway import auth
from scheduling.gateway.heartbeat import BATCHER
from tests.support.factories import FakeNode, make_node
from tests.support.gateway_requests import a_token


@pytest.fixture(autouse=True)
def fresh_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the tokens and heartbeats of the test before, and do not delay rejections."""
    auth._cache.clear()
    BATCHER.drops.stored.clear()
    BATCHER.drops.dropped.clear()
    monkeypatch.setattr("scheduling.gateway.app.REJECTION_DELAY_S", 0.0)


@pytest.fixture
def node() -> FakeNode:
    daemon = make_node("node-1")
    a_token(daemon)
    return daemon
