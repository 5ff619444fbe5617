"""A fleet that answers of plans and what-if scenarios are about, and the description of the API."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from scheduling.permissions import Role
from tests.support.factories import FakeNode, make_crowded_fleet, make_node
from tests.support.kept_rows import KeptRows
from tests.support.pages import signed_in


@pytest.fixture(scope="session")
def schema() -> dict[str, Any]:
    """Return the OpenAPI description, which takes a second to make: read it only."""
    return dict(SchemaGenerator().get_schema(request=None, public=True))


@pytest.fixture
def browser(db: None) -> Client:
    """Return the browser of an operator, as tests of pages use it."""
    return signed_in(Role.OPERATOR, "dora")


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
