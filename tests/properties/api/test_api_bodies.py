"""Whatever a client sends, the REST API answers with a document and no internal error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduling.permissions import Role
from tests.support.api_client import PROBLEM, ApiClient, make_api_client
from tests.support.drawn_examples import examples
from tests.support.factories import make_node, make_portfolio

pytestmark = pytest.mark.django_db

FIELDS = (
    "name", "strategy", "config", "symbols", "limits", "weight", "priority", "selector",
    "spread_group", "spread_hard", "catch_up", "starting_cash", "desired_state", "note", "reason",
    "target_node", "revision", "portfolio", "failover", "expect_running",
)  # fmt: skip
SENSIBLE = ("canary", "sma_cross", "canary-1", "node-1", "IBM", "*", "running", "full", "1e9", "-1")
PARAMETERS = ("fast", "slow", "quantity", "largest_order", "allow_short", "zone")

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12), st.sampled_from(SENSIBLE),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(PARAMETERS) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
bodies = st.dictionaries(st.sampled_from(FIELDS), values, max_size=8) | values

WRITES = (
    ("POST", "portfolios/"), ("PATCH", "portfolios/canary-1/"),
    ("POST", "portfolios/canary-1/migrate/"), ("POST", "portfolios/canary-1/reload/"),
    ("POST", "schedule/migrate/"), ("POST", "schedule/migrate-several/"),
    ("POST", "schedule/freeze/"), ("POST", "nodes/node-1/drain/"), ("POST", "halt/"),
)  # fmt: skip


@pytest.fixture
def caller(db: Any) -> ApiClient:
    make_node("node-1")
    make_portfolio("canary-1")
    return make_api_client(Role.OPERATOR, "olive")


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(write=st.sampled_from(WRITES), body=bodies)
def test_api_accepts_or_refuses_any_body_without_an_internal_error(
    caller: ApiClient, write: tuple[str, str], body: Any
) -> None:
    method, path = write
    answer = caller._send(method, path, body)
    assert answer.status_code < 500, answer.content
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == PROBLEM
        assert answer.json()["detail"]
