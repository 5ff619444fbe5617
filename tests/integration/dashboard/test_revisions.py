"""Revisions on the page of a portfolio: compare two, reload to one; its chart and its state."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from portfolios.models import Order, Portfolio
from scheduling import operations
from scheduling.models import Handoff, HandoffState
from scheduling.permissions import Role
from tests.support.factories import make_node, make_running_portfolio
from tests.support.pages import signed_in, text_of

pytestmark = pytest.mark.django_db

CONFIG = {"fast": 1, "slow": 2, "quantity": "5"}


@pytest.fixture(autouse=True)
def portfolio(db: None) -> None:
    """A portfolio on node-1 that runs r1 and wants r2, with no handoff under way."""
    given: dict[str, Any] = {"strategy": "sma_cross", "symbols": ["IBM"], "config": CONFIG}
    make_running_portfolio("p", make_node("node-1"), events=2_000, **given)
    revise({**CONFIG, "slow": 9})


def revise(config: dict[str, Any]) -> None:
    operations.revise_portfolio("p", {"config": config}, actor="ann")
    Handoff.objects.update(state=HandoffState.DONE)


def test_two_revisions_are_compared_in_either_order(desk: Client) -> None:
    for query in ("older=1&newer=2", "older=2&newer=1"):
        page = text_of(desk.get(f"/portfolios/p/?{query}"))
        (line,) = re.findall(r'data-differs="([^"]*)"', page)
        assert line == "config.slow"
        assert "<del>2</del>" in page
        assert "<ins>9</ins>" in page
    for unknown in ("older=1&newer=7", f"older=1&newer={10**25}", "older=-1&newer=1"):
        page = text_of(desk.get(f"/portfolios/p/?{unknown}"))
        assert "There are revisions 1 to 2; give two of them." in page


def test_reload_dialog_offers_each_revision_and_its_difference(desk: Client) -> None:
    page = text_of(desk.get("/portfolios/p/reload/?revision=1"))
    assert re.search(r'name="revision" value="1" checked', page)
    assert re.search(r'data-revision="2".*?slow <del>2</del> <ins>9</ins>', page)
    back = desk.post("/portfolios/p/reload/", {"revision": "1", "reason": "back"})
    assert back.status_code == 302
    assert Portfolio.objects.get().revision == 1
    refused = desk.post("/portfolios/p/reload/", {"revision": "7", "reason": "typed"})
    assert "handoff" in text_of(refused) or "r7" in text_of(refused)
    assert 'value="typed"' in text_of(refused)


def test_revisions_are_still_counted_and_compared_after_a_reload_of_r1(desk: Client) -> None:
    desk.post("/portfolios/p/reload/", {"revision": "1", "reason": "back"})
    page = text_of(desk.get("/portfolios/p/?older=1&newer=2"))
    assert re.findall(r'data-differs="([^"]*)"', page) == ["config.slow"]
    assert re.search(r'id="revision-count" data-refresh>2<', page)


def test_viewer_compares_revisions_and_may_not_reload() -> None:
    viewer = signed_in(Role.VIEWER)
    page = text_of(viewer.get("/portfolios/p/"))
    assert "Compare r1 and r2" in page
    assert "/reload/" not in page
    assert viewer.post("/portfolios/p/reload/", {"revision": "1"}).status_code == 403


def test_portfolio_page_shows_defaults_state_and_order_marks(desk: Client) -> None:
    page = text_of(desk.get("/portfolios/p/"))
    assert re.search(r'data-parameter="slow"> <dt>slow</dt> <dd> 9', page)
    assert re.search(r'id="state".*?<b>closes</b>', page)
    marks = desk.get("/portfolios/p/equity.json?range=all").json()["orders"]
    assert {mark["symbol"] for mark in marks} == {"IBM"}
    assert {"at", "side", "quantity", "price", "status", "reason", "seq"} <= set(marks[0])
    Order.objects.update(reason="decided on a stale event", kind="stop")
    chinese = {"Accept-Language": "zh-CN"}
    answer = desk.get("/portfolios/p/equity.json?range=all", headers=chinese).json()
    assert {mark["reason"] for mark in answer["orders"]} == {"基于过时事件的决策"}
    for address in ("/portfolios/p/", "/orders/"):
        assert re.search(r"<td> ?止损", text_of(desk.get(address, headers=chinese))), address
