"""Refusals: recorded when (symbol, side, reason) changes, however the run is cut; never urgent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.refusals import MAX_REMEMBERED, remember_refusal
from portfolios.runtime.results import OrderRow
from portfolios.runtime.spec import Limits
from portfolios.verify import types
from portfolios.verify.compare import Comparison
from scheduling.node_daemon.commit_builder import CommitBuilder
from tests.support.market_factories import bar, buy, run, scripted, sell, spec


def test_refusals_that_differ_only_in_figures_are_recorded_once() -> None:
    """`buy_and_hold` without cash wants to buy at every event, each time at another price."""
    engine = PortfolioEngine.fresh(spec("buy_and_hold", parameters={"quantity": "1000"}))
    result = run(engine, [bar(seq, "KO", "10", f"{10 + seq}") for seq in range(1, 101)])
    assert [(o.seq, o.status) for o in result.orders] == [(1, "refused")]
    assert result.refused_again == 99


def test_refusal_of_another_symbol_side_or_reason_is_recorded_too(monkeypatch: Any) -> None:
    limits = Limits(largest_order=Decimal(95))
    script = {
        1: [buy("KO", "91")],  # 1,001 of cash
        2: [buy("KO", "92")],  # the same with other figures
        3: [buy("KO", "96")],  # too large
        4: [sell("KO", "1")],  # short
        5: [buy("KO", "97"), buy("PEP", "1")],  # too large again; no price
        6: [buy("KO", "92")],  # cash again
    }
    engine = scripted(monkeypatch, script, limits=limits)
    result = run(engine, [bar(seq, "KO", "10", "11") for seq in range(1, 7)])
    assert [(o.seq, o.index) for o in result.orders] == [(1, 0), (3, 0), (4, 0), (5, 1), (6, 0)]
    assert result.refused_again == 2


def test_a_refusal_after_a_placed_order_is_recorded_again(monkeypatch: Any) -> None:
    script = {1: [buy("KO", "91")], 2: [buy("KO", "1")], 3: [buy("KO", "91")]}
    result = run(scripted(monkeypatch, script), [bar(seq, "KO", "10", "11") for seq in range(1, 4)])
    assert [o.status for o in result.orders] == ["refused", "open", "refused"]


def test_remembered_refusals_are_bounded() -> None:
    remembered: dict[str, str] = {}
    for number in range(3 * MAX_REMEMBERED):
        assert remember_refusal(remembered, f"S{number}", "buy", "no price of it")
    assert len(remembered) == MAX_REMEMBERED


@pytest.mark.parametrize(("quantity", "urgent"), [("91", False), ("1", True)])
def test_refused_order_is_not_committed_at_once(
    monkeypatch: Any, quantity: str, urgent: bool
) -> None:
    engine = scripted(monkeypatch, {1: [buy("KO", quantity)], 2: [buy("KO", quantity)]})
    builder = CommitBuilder(0)
    builder.add(run(engine, [bar(1, "KO", "10", "11"), bar(2, "KO", "10", "11")]))
    assert builder.urgent is urgent
    assert builder.build(1, 1).refused_again == (0 if urgent else 1)


# --- verification of what older versions recorded -----------------------------------------------


def refusal(seq: int, reason: str = "needs 5 of cash, 1 is free") -> OrderRow:
    return OrderRow(seq, 0, "KO", "buy", Decimal(5), Decimal(1), "refused", reason, 0)


def stored_order(row: OrderRow) -> types.StoredOrder:
    uid = spec("canary").uid
    return types.StoredOrder(
        f"{uid}-{row.seq}-0", row, types.OrderOutcome(row.status), 1, "node-1", 1
    )


def difference_between(found: list[OrderRow], wanted: list[OrderRow], new_since: int | None) -> Any:
    no_feed: Any = None
    recorded = types.RecordedRun(
        [types.TenureSegment(1, spec("canary"), 1, "node-1", "epoch 1")], [], [], no_feed, 9, None
    )
    return Comparison(recorded, types.Counts(), new_since=new_since).compare(
        types.ProducedRows(orders=wanted),
        types.StoredRows([stored_order(r) for r in found], [], []),
    )


def test_repeated_refusals_that_an_older_version_recorded_are_not_a_difference() -> None:
    found = [refusal(1), refusal(2, "needs 6 of cash, 1 is free"), refusal(3)]
    assert difference_between(found, [refusal(1)], None) is None
    assert difference_between(found, [refusal(1)], 4) is None


def test_a_refusal_that_this_version_would_not_record_is_a_difference() -> None:
    difference = difference_between([refusal(1), refusal(2), refusal(5)], [refusal(1)], 5)
    assert difference is not None
    assert difference.seq == 5
