"""A fleet that answers of plans and what-if scenarios are about."""

from __future__ import annotations

import pytest

from tests.support.factories import FakeNode, make_crowded_fleet
from tests.support.kept_rows import KeptRows

CROWDED = KeptRows(make_crowded_fleet)


@pytest.fixture
def crowded(db: None) -> list[FakeNode]:
    """Return three nodes, of which node-1 is full enough that its loss leaves two without place."""
    nodes = CROWDED.get()
    for node in nodes:
        node.beat()
    return nodes
