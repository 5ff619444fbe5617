"""No page of the desk needs more statements for more rows."""

from __future__ import annotations

import pytest
from django.test import Client

from scheduling import operations
from scheduling.db.transaction import execute_autocommit
from scheduling.enact import alerts
from scheduling.models import Node
from scheduling.observe.fleet_view import portfolios as portfolio_views
from scheduling.operations.tokens import issue_node_token
from scheduling.timing import timing
from tests.support.api_client import counted_statements
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
} | {"/migrate/?portfolio=p-0": "/migrate/?portfolio=p-0&portfolio=p-1&portfolio=p-2"}


def add_rows(node: FakeNode, number: int, lost: FakeNode) -> None:
    """Add a portfolio with orders and two more revisions, an alert, a token, and audit lines."""
    name = f"p-{number}"
    make_buyer(name, node, 600, "IBM", "HPQ")
    for quantity in (2, 3):
        operations.revise_portfolio(name, {"config": {"quantity": quantity}}, actor="ann")
    operations.revise_portfolio("p-0", {"config": {"quantity": number + 9}}, actor="ann")
    issue_node_token("node-1", actor="olive")
    operations.cordon("node-2", actor="ann")
    operations.uncordon("node-2", actor="ann")
    Node.objects.filter(pk=lost.row.pk).update(status="lost", status_since=ago(60))
    execute_autocommit(alerts.update_alerts(timing()))


def test_pages_need_as_many_statements_for_many_rows_as_for_few(
    desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolio_views, "SPARKLINE_INTERVAL_S", 0.0)  # read in each request
    node, _, *lost = make_settled_nodes(5)
    Node.objects.update(capacity=20)

    def statements(addresses: list[str]) -> dict[str, int]:
        found = {}
        for name, address in zip(PAGES, addresses, strict=True):
            desk.get(address)
            with counted_statements() as seen:
                assert desk.get(address).status_code == 200, address
            found[name] = len(seen)
        return found

    add_rows(node, 0, lost[0])
    few = statements([*PAGES])
    for number in (1, 2):
        add_rows(node, number, lost[number])
    assert statements([*PAGES.values()]) == few
