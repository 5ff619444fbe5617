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
    """Return a node whose gateway has served for an hour."""
    serving_since(3600)
    return make_node("node-1")


@pytest.fixture
def hand(node: FakeNode) -> OwnerSession:
    """Return the session of node-1 as the owner of a portfolio whose only revision is good."""
    hand = make_trader("p", node)
    prove_revision(hand.portfolio)
    return hand
