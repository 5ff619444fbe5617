"""No list of the API, the admin or the dashboard needs more statements for more rows."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from portfolios.models import Secret
from scheduling import operations
from scheduling.db.transaction import execute_autocommit
from scheduling.enact import alerts
from scheduling.models import Node
from scheduling.observe.fleet_view import portfolios as portfolio_views
from scheduling.operations.feeds import create_feed
from scheduling.operations.tokens import issue_node_token
from scheduling.permissions import Role
from scheduling.timing import timing
from tests.support.api_client import counted_statements, make_api_client
from tests.support.artifacts import store_artifact
from tests.support.factories import FakeNode, ago, make_buyer, make_settled_nodes

pytestmark = pytest.mark.django_db

#: The second form of each is asked for once there are more rows.
PAGES = {
    address: address
    for address in (
        *("/", "/alerts/", "/audit/", "/handoffs/", "/incidents/", "/nodes/", "/orders/"),
        *("/nodes/node-1/", "/nodes/node-1/drain/", "/portfolios/", "/portfolios/p-0/edit/"),
        "/portfolios/p-0/?older=1&newer=2",
    )
} | {"/migrate/?portfolio=p-0": "/migrate/?portfolio=p-0&portfolio=p-1"}


def lists_of_the_admin() -> dict[str, str]:
    models = [model._meta for model in admin.site._registry]
    ours = [one for one in models if one.app_label in ("portfolios", "scheduling")]
    found = [reverse(f"admin:{one.app_label}_{one.model_name}_changelist") for one in ours]
    return {address: address for address in found}


def lists_of_the_api(schema: dict[str, Any]) -> dict[str, str]:
    found = []
    for path, methods in schema["paths"].items():
        parameters = methods.get("get", {}).get("parameters", ())
        needed = [one for one in parameters if one.get("required") and one["in"] == "query"]
        if "get" in methods and "{" not in path.replace("{name}", "") and not needed:
            name = "node-1" if "/nodes/" in path else "crypto-0" if "/feeds/" in path else "p-0"
            found.append(path.replace("{name}", name))
    assert len(found) > 30
    return {address: address for address in found}


def add_rows(node: FakeNode, number: int, lost: FakeNode) -> None:
    """Add a portfolio with orders and two more revisions, and a row of everything else."""
    name = f"p-{number}"
    make_buyer(name, node, 600, "IBM", "HPQ")
    for quantity in (2, 3):
        operations.revise_portfolio(name, {"config": {"quantity": quantity}}, actor="ann")
    operations.revise_portfolio("p-0", {"config": {"quantity": number + 9}}, actor="ann")
    issue_node_token("node-1", actor="olive")
    make_api_client(Role.VIEWER, f"vera-{number}")
    Secret.objects.create(name=f"secret-{number}", set_at=ago(1))
    create_feed(f"crypto-{number}", [], actor="ann")
    store_artifact(f"{number}.0", code=str(number))
    operations.cordon("node-2", actor="ann")
    operations.uncordon("node-2", actor="ann")
    Node.objects.filter(pk=lost.row.pk).update(status="lost", status_since=ago(60))
    execute_autocommit(alerts.update_alerts(timing()))


def test_lists_need_as_many_statements_for_many_rows_as_for_few(
    browser: Client, schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolio_views, "SPARKLINE_INTERVAL_S", 0.0)  # read in each request
    node, _, *lost = make_settled_nodes(4)
    Node.objects.update(capacity=20)
    pages = PAGES | lists_of_the_admin() | lists_of_the_api(schema)

    def statements(address: str) -> int:
        with counted_statements() as seen:
            assert browser.get(address).status_code == 200, address
        return len(seen)

    add_rows(node, 0, lost[0])
    # Twice, since a request may also renew what is kept for seconds, or once and for all.
    few = {address: min(statements(address) for _ in range(2)) for address in pages}
    add_rows(node, 1, lost[1])
    many = {address: min(statements(more) for _ in range(2)) for address, more in pages.items()}
    assert many == few
