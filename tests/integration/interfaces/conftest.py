"""A fleet that answers of plans and what-if scenarios are about."""

from __future__ import annotations

import pytest

from tests.support.factories import FakeNode, make_crowded_fleet, make_node
from tests.support.kept_rows import KeptRows


@pytest.fixture
def node(db: None) -> FakeNode:
    return make_node("node-1")


@pytest.fixture(scope="module")
def crowded_rows() -> KeptRows[list[FakeNode]]:
    """Return the rows of the fleet: of each module its own, since a process caches snapshots."""
    return KeptRows(make_crowded_fleet)


@pytest.fixture
def crowded(db: None, crowded_rows: KeptRows[list[FakeNode]]) -> list[FakeNode]:
    """Return three nodes, of which node-1 is full enough that its loss leaves two without place."""
    nodes = crowded_rows.get()
    for node in nodes:
        node.beat()
    return nodes
