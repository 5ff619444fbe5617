"""The checker of the stored history finds gaps in tenures, and orders or fills of no owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from chaos.checkers import history
from portfolios.models import Fill, Order, Portfolio
from scheduling import operations
from scheduling.models import Tenure
from tests.support.factories import make_node, make_running_portfolio, newest_handoff, owner

pytestmark = pytest.mark.django_db


def ask(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


@pytest.fixture
def moved() -> Portfolio:
    """Return a portfolio that traded on node-1 and continued on node-2."""
    first, second = make_node("node-1"), make_node("node-2")
    crossing = {"config": {"fast": 1, "slow": 2}, "symbols": ["GE", "IBM", "KO", "XOM"]}
    portfolio = make_running_portfolio("p", first, events=4_000, strategy="sma_cross", **crossing)
    operations.migrate("p", "node-2", actor="ann")
    handoff = newest_handoff(portfolio)
    second.ready(handoff)
    owner("p", first).release(handoff)
    assert second.commit("p", 5) == "ok"
    assert Order.objects.exists() and Fill.objects.exists()
    return portfolio


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (
            lambda: Tenure.objects.filter(node__name="node-2").update(from_seq=F("from_seq") + 1),
            "but epoch",
        ),
        (lambda: Tenure.objects.update(to_seq=None), "had no end"),
        (lambda: Order.objects.update(epoch=F("epoch") + 1), "order "),
        (lambda: Order.objects.update(node="node-2"), "on node-2"),
        (lambda: Order.objects.update(revision=9), "order "),
        (lambda: Fill.objects.update(epoch=F("epoch") + 1), "the fill of"),
    ],
)
def test_rows_that_no_owner_could_have_written_are_found(
    moved: Portfolio, break_it: Callable[[], object], sentence: str
) -> None:
    assert history.history_violations(ask) == []
    break_it()
    found = [what for _, what in history.history_violations(ask)]
    assert any(sentence in what for what in found), found
