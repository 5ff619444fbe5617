"""The order blotter: orders of all portfolios, with those that were not placed."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import Client
from django.utils import timezone

from portfolios.models import Order
from scheduling.dashboard.views import orders
from scheduling.observe import orders as observe_orders
from scheduling.observe.orders import count_by_status, orders_between
from tests.support.api_client import ApiClient
from tests.support.factories import ago, make_order, make_portfolio

pytestmark = pytest.mark.django_db


@pytest.fixture
def day() -> None:
    """Two portfolios: one trades, of the other every order is refused or suppressed."""
    good, bad = make_portfolio("good"), make_portfolio("bad")
    make_order(good, 1, seconds_ago=300)
    make_order(good, 2, seconds_ago=200, symbol="XOM", node="node-2")
    refused: dict[str, Any] = {"status": "refused", "reason": "order of 10 is over the largest, 1"}
    for seq in range(1, 4):
        make_order(bad, seq, seconds_ago=100, **refused)
    make_order(bad, 4, seconds_ago=50, status="suppressed", reason="9 s old, limit 5 s")
    make_order(good, 3, seconds_ago=90_000)


def rows_of(answer: Any) -> list[str]:
    return re.findall(r'data-order="[^"]+-(\d+)-0" data-status', answer.content.decode())


def test_blotter_counts_the_orders_of_all_portfolios_by_their_status(
    day: None, reader: Client
) -> None:
    answer = reader.get("/orders/")
    page = " ".join(answer.content.decode().split())
    assert rows_of(answer) == ["4", "3", "2", "1", "2", "1"]  # not the one of the day before
    counts = re.findall(r'data-count="(\w+)">([\d,]+) ', page)
    assert counts == [("filled", "2"), ("suppressed", "1"), ("refused", "3")]
    assert "order of 10 is over the largest, 1" in page


def test_orders_are_counted_up_to_a_limit(day: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, is_all in ((7, True), (6, False)):
        monkeypatch.setattr(observe_orders, "MAX_COUNTED", limit)
        counts = count_by_status(orders_between(None, None, timezone.now()))
        assert (sum(counts.by_status.values()), counts.is_all) == (6, is_all)


FILTERS: tuple[tuple[str, list[str]], ...] = (
    ("status=unplaced", ["4", "3", "2", "1"]),
    ("status=refused&portfolio=bad", ["3", "2", "1"]),
    ("portfolio=good", ["2", "1"]),
    ("node=node-2", ["2"]),
    ("symbol=XOM", ["2"]),
    ("side=sell", []),
    ("since=2020-01-01", ["4", "3", "2", "1", "2", "1", "3"]),
    ("until=2020-01-01", []),
    ("until=0001-01-01", []),  # 24 h before it there is no time
)


def test_blotter_is_filtered(day: None, reader: Client) -> None:
    for query, seqs in FILTERS:
        assert rows_of(reader.get(f"/orders/?{query}")) == seqs


def test_blotter_pages_show_each_of_several_orders_of_one_moment_once(
    reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "PAGE_ROWS", 5)
    portfolio = make_portfolio("p")
    for seq in range(1, 13):
        make_order(portfolio, seq, seconds_ago=10)
    Order.objects.update(committed_at=ago(10))
    seen: list[str] = []
    address = "/orders/"
    while address:
        answer = reader.get(address)
        seen += rows_of(answer)
        older = re.search(r'href="(\?before=[^"]+)"[^>]*>Older', answer.content.decode())
        address = f"/orders/{older[1]}" if older else ""
    assert len(seen) == len(set(seen)) == 12


def test_blotter_says_that_there_are_no_orders_or_that_a_time_is_wrong(reader: Client) -> None:
    assert "No order was decided in the last 24 hours" in reader.get("/orders/").content.decode()
    wrong = reader.get("/orders/?since=yesterday")
    assert wrong.status_code == 400
    assert "from is “yesterday”" in wrong.content.decode()


async def _text(answer: Any) -> str:
    return "".join([part.decode() async for part in answer.streaming_content])


def test_exported_blotter_has_the_orders_that_match_its_filter(day: None, reader: Client) -> None:
    answer = reader.get("/orders/?status=unplaced&format=csv")
    lines = list(csv.DictReader(io.StringIO(async_to_sync(_text)(answer))))
    assert [line["seq"] for line in lines] == ["4", "3", "2", "1"]
    assert (lines[0]["portfolio"], lines[0]["price"]) == ("bad", "101.5")


def test_api_lists_orders_of_all_portfolios(day: None, operator: ApiClient) -> None:
    found = operator.get("orders/", status="unplaced").json()["results"]
    assert [(row["portfolio"], row["seq"]) for row in found] == [("bad", n) for n in (4, 3, 2, 1)]
    assert len(operator.get("orders/").json()["results"]) == 6
    assert len(operator.get("orders/", since="2020-01-01T00:00:00Z").json()["results"]) == 7
    assert operator.get("orders/", status="lost").status_code == 400
    first = operator.get("orders/", limit=4).json()
    assert len(first["results"]) == 4
    assert first["next"]


def test_blotter_reads_the_newest_orders_by_an_index(day: None) -> None:
    with connection.cursor() as cursor:
        # Of so few rows everything costs the same, in the order that statistics happen to say.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(
            "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%%(committed_at)%%'"
            " AND tablename LIKE 'portfolios_order%%'"
        )
        (indexes,) = cursor.fetchone()
        cursor.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'portfolios_order'::regclass"
        )
        (partitions,) = cursor.fetchone()
    assert indexes == partitions + 1  # of every partition, and of the table
    plan = orders_between(ago(3600), None, ago(0))[:51].explain()
    assert re.search(r"Index Scan (Backward )?(using|on) \w*committed", plan), plan
