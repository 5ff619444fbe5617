"""Records in the REST API: orders, fills, equity, tenures, revisions, handoffs, events, feeds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from portfolios.feed_registration import current_head
from portfolios.feeds import open_feed
from portfolios.models import FeedSegment
from scheduling import operations
from scheduling.models import Alert
from tests.support.api_client import ApiClient, problem
from tests.support.factories import ago, make_node, make_portfolio, make_running_portfolio

HOLD: dict[str, Any] = {
    "strategy": "buy_and_hold", "symbols": ["IBM", "HPQ", "XRX"], "config": {"quantity": "7"},
}  # fmt: skip


@pytest.fixture
def holder(db: Any) -> Any:
    """Return a portfolio that bought three symbols and saw a thousand events."""
    return make_running_portfolio("tech-hold", make_node("node-1"), events=1000, **HOLD)


@pytest.mark.usefixtures("holder")
def test_orders_have_every_documented_field(viewer: ApiClient) -> None:
    page = viewer.get("portfolios/tech-hold/orders/").json()
    assert set(page) == {"results", "next", "previous"}
    assert {order["symbol"] for order in page["results"]} == {"IBM", "HPQ", "XRX"}
    seqs = [order["seq"] for order in page["results"]]
    assert seqs == sorted(seqs, reverse=True)
    order = page["results"][0]
    assert set(order) >= {
        "id", "seq", "index", "symbol", "side", "quantity", "price", "status", "epoch", "node",
        "revision", "decided_at", "committed_at",
    }  # fmt: skip
    assert order == order | {
        "quantity": "7.0000", "price": f"{Decimal(order['price']):.4f}", "side": "buy",
        "node": "node-1", "epoch": 1, "revision": 1,
    }  # fmt: skip
    assert order["decided_at"].endswith("Z")
    assert order["id"].endswith(f"-{order['seq']}-{order['index']}")


@pytest.mark.usefixtures("holder")
def test_orders_are_filtered_by_status_symbol_side_and_seq(viewer: ApiClient) -> None:
    path = "portfolios/tech-hold/orders/"
    filled = viewer.get(path, status="filled").json()["results"]
    assert filled
    assert {order["status"] for order in filled} == {"filled"}
    ibm = viewer.get(path, symbol="IBM").json()["results"]
    assert [order["symbol"] for order in ibm] == ["IBM"]
    assert viewer.get(path, side="sell").json()["results"] == []
    assert viewer.get(path, from_seq=ibm[0]["seq"], to_seq=ibm[0]["seq"]).json()["results"] == ibm


@pytest.mark.usefixtures("holder")
def test_api_lists_fills_equity_tenures_and_revisions_of_a_portfolio(viewer: ApiClient) -> None:
    fill = viewer.get("portfolios/tech-hold/fills/").json()["results"][0]
    assert fill["quantity"] == "7.0000"
    assert fill["at"].endswith("Z")
    orders = viewer.get("portfolios/tech-hold/orders/").json()["results"]
    assert fill["order"] in {order["id"] for order in orders}
    points = viewer.get("portfolios/tech-hold/equity/").json()["results"]
    assert points
    assert [p["seq"] for p in points] == sorted(p["seq"] for p in points)
    assert points[0]["equity"] == "100000.0000"
    (tenure,) = viewer.get("portfolios/tech-hold/tenures/").json()["results"]
    assert (tenure["epoch"], tenure["node"], tenure["cause"]) == (1, "node-1", "place")
    (revision,) = viewer.get("portfolios/tech-hold/revisions/").json()["results"]
    assert (revision["number"], revision["strategy"]) == (1, "buy_and_hold")
    assert revision["config"] == HOLD["config"]


@pytest.mark.usefixtures("holder")
def test_handoffs_and_events_are_filtered_by_their_parameters(operator: ApiClient) -> None:
    make_node("node-2")
    operator.post("portfolios/tech-hold/migrate/", {"target_node": "node-2", "reason": "why not"})
    (active,) = operator.get("handoffs/", active="true").json()["results"]
    assert active["kind"] == "migrate"
    assert len(operator.get("handoffs/", active="").json()["results"]) == 2
    maybe = operator.get("handoffs/", active="maybe")
    assert (maybe.status_code, maybe.json()["errors"][0]["field"]) == (400, "active")
    assert "true or false" in maybe.json()["detail"]
    assert operator.get("alerts/", open="no").status_code == 400
    both = operator.get("handoffs/", portfolio="tech-hold", node="node-1").json()["results"]
    assert [handoff["kind"] for handoff in both] == ["migrate", "place"]
    assert operator.get("handoffs/", kind="failover").json()["results"] == []
    assert operator.get("handoffs/", state="done", node="node-1").json()["results"] == both[1:]
    events = operator.get("events/", portfolio="tech-hold", kind="pinned").json()["results"]
    assert set(events[0]) == {
        "id", "at", "kind", "portfolio", "node", "actor", "interface", "address", "reason", "data",
    }  # fmt: skip
    assert events[0] == events[0] | {"actor": "olive", "reason": "why not", "node": "node-2"}


@pytest.mark.usefixtures("holder")
def test_api_lists_released_events_of_a_feed_with_its_head_and_length(viewer: ApiClient) -> None:
    FeedSegment.objects.update(from_time="2026-01-01T00:00:00Z")
    answer = viewer.get("feed/", **{"from": 92_119, "limit": 3}).json()
    assert answer["head"] > 1_000_000
    assert answer["length"] == 92_120
    assert [event["seq"] for event in answer["results"]] == [92_119, 92_120, 92_121]
    assert [event["symbol"] for event in answer["results"]] == ["YUM", "ZMH", "A"]
    first, last = answer["results"][0], answer["results"][-1]
    assert set(first) == {"seq", "symbol", "time", "open", "high", "low", "close", "volume"}
    assert first["time"] == "2010-08-20T00:00:00Z"
    assert last["time"] > first["time"]
    for name in ("open", "high", "low", "close"):
        assert len(first[name].partition(".")[2]) == 4
    assert first["close"] == str(open_feed().read(92_119, 1)[0].close)


@pytest.mark.usefixtures("holder")
def test_api_lists_at_most_five_thousand_events_of_a_feed_and_none_beyond_its_head(
    viewer: ApiClient,
) -> None:
    head = current_head("replay")
    beyond = viewer.get("feed/", **{"from": head + 1_000_000, "limit": 10}).json()
    assert beyond["results"] == []
    assert beyond["head"] >= head
    FeedSegment.objects.update(from_time="2026-01-01T00:00:00Z")
    assert len(viewer.get("feed/", **{"from": 1, "limit": 100_000}).json()["results"]) == 5000
    # By then the replay is in lap 30,000: its bars are of a year that has five digits.
    newest = viewer.get("feed/", limit=2).json()
    assert [event["seq"] for event in newest["results"]] == [newest["head"] - 1, newest["head"]]
    assert newest["results"][0]["time"].startswith("+")


def test_the_events_of_an_unknown_feed_are_not_found(viewer: ApiClient) -> None:
    for name in ("none", "a\0b", "\0"):
        problem(viewer.get("feed/", feed=name), 404, "not_found")


def test_a_reused_name_inherits_neither_audit_log_nor_handoffs_nor_alerts(
    operator: ApiClient,
) -> None:
    old = make_running_portfolio("one", make_node("node-1"))
    Alert.objects.create(kind="halted", key="x", opened_at=ago(1), portfolio=old)
    assert len(operator.get("alerts/", portfolio="one").json()["results"]) == 1
    operations.delete_portfolio("one", actor="olive")
    told = operator.get("events/", portfolio="one").json()["results"]
    assert "portfolio_deleted" in {event["kind"] for event in told}
    assert operator.get("handoffs/", portfolio="one").json()["results"]
    make_portfolio("one")
    told = operator.get("events/", portfolio="one").json()["results"]
    assert [event["kind"] for event in told] == ["portfolio_created"]
    for path in ("handoffs/", "alerts/"):
        assert operator.get(path, portfolio="one").json()["results"] == []
