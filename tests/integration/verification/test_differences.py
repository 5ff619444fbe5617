"""A verification names the first difference between records and reference run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from portfolios.feed_registration import read_segments
from portfolios.feeds import open_feed
from portfolios.models import Checkpoint, EquityPoint, Fill, Order, Portfolio, Suppression
from portfolios.runtime.engine import EQUITY_STEP_US
from portfolios.runtime.events import Event as MarketEvent
from portfolios.runtime.state import decode_state, encode_state
from scheduling.models import Event, Tenure
from scheduling.verification.verify import verify_portfolio
from tests.support.factories import make_buyer, make_node
from tests.support.verified_trader import NAME, difference, the_order

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("quick")]


def test_a_changed_state_is_a_difference_named_by_its_field(trader: Portfolio) -> None:
    row = Checkpoint.objects.get(portfolio=trader)
    state = decode_state(bytes(row.state))
    true = state.account.cash
    state.account.cash += Decimal("0.0001")
    Checkpoint.objects.filter(portfolio=trader).update(state=encode_state(state))
    found = difference(verify_portfolio(NAME))
    assert (found.seq, found.kind, found.field) == (row.seq, "state", "account.cash")
    assert (found.found, found.wanted) == (str(true + Decimal("0.0001")), str(true))
    assert "epoch 4 on node-2, r2 by register" in found.where


def assert_fields_are_compared(row: Order | Fill, seq: int, kind: str, **others: Any) -> None:
    """Assert that each other value of a field of a row of epoch 2 is a difference at `seq`."""
    others |= {
        "symbol": "MMM", "side": {"buy": "sell", "sell": "buy"}[row.side],
        "quantity": row.quantity + 1, "price": row.price + 1, "epoch": row.epoch + 1,
    }  # fmt: skip
    stored = type(row)._default_manager.filter(pk=row.pk)
    for field, value in others.items():
        stored.update(**{field: value})
        found = difference(verify_portfolio(NAME))
        assert (found.seq, found.kind, found.field) == (seq, kind, field)
        assert "epoch 2 on node-2, r1 by migrate (handoff" in found.where
        stored.update(**{field: getattr(row, field)})
    assert verify_portfolio(NAME).identical


def test_every_field_of_an_order_is_compared(trader: Portfolio) -> None:
    order = the_order(trader, epoch=2, status="filled")
    late = order.decided_at + timedelta(microseconds=1)
    others = {"status": "refused", "reason": "because", "node": "node-1", "decided_at": late}
    assert_fields_are_compared(order, order.seq, "order", revision=order.revision + 1, **others)


def test_order_placed_twice_is_a_difference(trader: Portfolio) -> None:
    order = the_order(trader, status="filled")
    order.pk = f"{trader.uid}-{order.seq}-{order.index + 1}"
    order.index, order.status = order.index + 1, "open"
    order.save(force_insert=True)
    found = difference(verify_portfolio(NAME))
    assert (found.seq, found.kind, found.field) == (order.seq, "order", "row")
    assert order.symbol in found.found and found.found.endswith(f", epoch {order.epoch}")
    assert found.wanted == "none"


def test_order_not_marked_as_filled_is_a_difference(trader: Portfolio) -> None:
    order = the_order(trader, status="filled")
    Order.objects.filter(pk=order.pk).update(status="open")
    found = difference(verify_portfolio(NAME))
    assert (found.seq, found.field) == (order.fills.get().fill_seq, "status after its fill")
    assert (found.found, found.wanted) == ("open", "filled")


def test_waiting_order_marked_as_filled_is_a_difference(waiting: Order) -> None:
    Order.objects.filter(pk=waiting.pk).update(status="filled")
    found = difference(verify_portfolio(NAME))
    assert (found.seq, found.field, found.found) == (waiting.seq, "status", "filled")


def test_every_field_of_a_fill_is_compared(trader: Portfolio) -> None:
    fill = Fill.objects.filter(portfolio=trader, epoch=2).latest("fill_seq")
    late = fill.at + timedelta(microseconds=1)
    another = the_order(trader, epoch=1, status="filled")
    assert_fields_are_compared(fill, fill.fill_seq, "fill", at=late, order=another)


def test_fill_and_equity_point_that_no_event_made_are_differences(trader: Portfolio) -> None:
    fill = Fill.objects.filter(portfolio=trader).latest("fill_seq")
    fill.pk, fill.index = None, fill.index + 1
    fill.save(force_insert=True)
    found = difference(verify_portfolio(NAME))
    assert (found.seq, found.kind, found.wanted) == (fill.fill_seq, "fill", "none")
    fill.delete()
    point = EquityPoint.objects.filter(portfolio=trader).latest("seq")
    point.pk, point.seq = None, point.seq + 1
    point.save(force_insert=True)
    found = difference(verify_portfolio(NAME))
    assert (found.seq, found.kind, found.wanted) == (point.seq, "equity", "none")


def test_of_several_differences_the_one_with_the_lowest_seq_is_named(trader: Portfolio) -> None:
    point = EquityPoint.objects.filter(portfolio=trader).order_by("seq")[5]
    order = Order.objects.filter(portfolio=trader, seq__gt=point.seq).earliest("seq", "index")
    Order.objects.filter(pk=order.pk).update(price=order.price + 1)
    assert difference(verify_portfolio(NAME)).seq == order.seq
    EquityPoint.objects.filter(pk=point.pk).update(equity=point.equity + 1)
    found = difference(verify_portfolio(NAME))
    assert (found.seq, found.kind, found.field) == (point.seq, "equity", "equity")


def test_difference_of_a_fill_is_named_before_equity_of_the_same_event(trader: Portfolio) -> None:
    fills = Fill.objects.filter(portfolio=trader).values_list("fill_seq", flat=True)
    point = EquityPoint.objects.filter(portfolio=trader, seq__in=list(fills)).earliest("seq")
    EquityPoint.objects.filter(pk=point.pk).update(at=point.at + timedelta(microseconds=1))
    found = difference(verify_portfolio(NAME))
    assert (found.seq, found.kind, found.field) == (point.seq, "equity", "at")
    Fill.objects.filter(portfolio=trader, fill_seq=point.seq).update(price=Decimal("0.5"))
    assert difference(verify_portfolio(NAME)).kind == "fill"


@pytest.mark.parametrize("by", [-500, 500])
def test_a_suppressed_range_that_was_shifted_is_a_difference(trader: Portfolio, by: int) -> None:
    row = Suppression.objects.get(portfolio=trader)
    first, last = row.from_seq, row.to_seq
    Suppression.objects.update(from_seq=first + by, to_seq=last + by)
    found = difference(verify_portfolio(NAME))
    assert (found.kind, found.field) == ("order", "status")
    assert found.seq in (range(first - 500, first) if by < 0 else range(first, first + 500))
    assert "suppressed" in (found.found, found.wanted)


def unremarkable(seen: Sequence[MarketEvent]) -> MarketEvent:
    """Return one that is neither an equity point nor the newest price."""
    return next(
        event
        for before, event in pairwise(seen[:-1])
        if event.released // EQUITY_STEP_US == before.released // EQUITY_STEP_US
    )


def test_a_lost_event_is_found_though_the_strategy_decided_nothing_on_it() -> None:
    one = make_node("node-1")
    holder = make_buyer(NAME, one, 2_000, "KO")
    first = holder.first_seq + 2_000
    seen = open_feed().read_for(frozenset(["KO"]), first, first + 3_999, read_segments(holder.feed))
    one.commit(NAME, 4_000, lose=unremarkable(seen).seq)
    found = difference(verify_portfolio(NAME))
    assert (found.kind, found.field) == ("state", "account.processed.events")
    assert int(found.found) == int(found.wanted) - 1


def test_another_event_digest_in_the_checkpoint_is_a_difference(trader: Portfolio) -> None:
    state = decode_state(bytes(Checkpoint.objects.get(portfolio=trader).state))
    assert state.account.processed is not None
    state.account.processed.digest ^= 1
    Checkpoint.objects.filter(portfolio=trader).update(state=encode_state(state))
    assert difference(verify_portfolio(NAME)).field == "account.processed.digest"


def test_tenure_with_another_revision_is_a_difference(trader: Portfolio) -> None:
    Tenure.objects.filter(portfolio=trader, epoch=2).update(revision=2)
    verdict = verify_portfolio(NAME)
    found = difference(verdict)
    assert found.kind == "order" and "epoch 2" in found.where
    assert verdict.history == "epoch 2: revision is 1 in the audit log and 2 in the tenure"


def test_missing_tenure_is_a_difference(trader: Portfolio) -> None:
    Tenure.objects.filter(portfolio=trader, epoch=2).delete()
    verdict = verify_portfolio(NAME)
    assert difference(verdict).field == "epoch"
    assert verdict.history is not None
    assert verdict.history.startswith("the audit log grants epoch 2 to node-2 (migrate) after seq")
    assert verdict.history.endswith("no tenure of it exists")


def test_missing_audit_line_is_a_history_difference(trader: Portfolio) -> None:
    Event.objects.filter(portfolio=trader, kind="granted", data__epoch=2).delete()
    verdict = verify_portfolio(NAME)
    assert verdict.compared.difference is None
    assert not verdict.identical
    said = verdict.sentence
    assert said.startswith("history differs: the audit log goes from epoch 1 to epoch 3")
    assert said.endswith("which follows epoch 2: a line between them is missing")
