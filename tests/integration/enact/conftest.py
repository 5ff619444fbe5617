"""A node that a gateway serves, and a portfolio with a good revision that it owns."""

from __future__ import annotations

import pytest

from tests.support.factories import (
    FakeNode,
    OwnerSession,
    make_node,
    make_trader,
    prove_revision,
    serving_since,
)


@pytest.fixture
def node() -> FakeNode:
    serving_since(3600)
    return make_node("node-1")


@pytest.fixture
def hand(node: FakeNode) -> OwnerSession:
    hand = make_trader("p", node)
    prove_revision(hand.portfolio)
    return hand
