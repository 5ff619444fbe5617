"""The fence: rows and answers of commits, and the refusal of stale ones."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from portfolios.models import Checkpoint, EquityPoint, Fill, MetricPoint, Order, Suppression
from scheduling.db.transaction import execute
from scheduling.enact.commit_columns import are_plain
from scheduling.enact.commit_validation import validate_commit
from scheduling.enact.grant import GrantCause, Owner, grant
from scheduling.models import Event, Tenure
from scheduling.presentation.audit_lines import audit_sentence
from scheduling.wire.messages import (
    Commit,
    EquityLine,
    FillLine,
    MetricLine,
    OrderEndLine,
    OrderLine,
)
from tests.support.factories import FakeNode, OwnerSession, ago, make_node, make_trader, order_line

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]

AT_US = 1_790_000_000_000_000


def a_fill(order_seq: int, seq: int, index: int = 0) -> FillLine:
    return FillLine(order_seq, 0, seq, index, "IBM", "buy", "10", "12.75", AT_US)


def written(hand: OwnerSession) -> tuple[int, ...]:
    """Return how many rows of each kind the portfolio has left behind."""
    tables = (Order, Fill, EquityPoint, Suppression)
    return tuple(t.objects.filter(portfolio=hand.portfolio).count() for t in tables)


@pytest.fixture
def hand() -> OwnerSession:
    return make_trader("p", make_node("node-1"), events=0)


def test_a_commit_with_a_state_sets_the_seq_of_the_state_and_keeps_one_checkpoint(
    hand: OwnerSession,
) -> None:
    assert hand.commit(3, state=b"first") == "ok"
    assert hand.commit(4, state=b"second") == "ok"
    at = hand.run()
    kept = Checkpoint.objects.get(portfolio=hand.portfolio)
    assert (at.state_seq, kept.seq, bytes(kept.state)) == (at.last_seq, at.last_seq, b"second")


def test_a_commit_without_a_state_leaves_the_checkpoint_where_it_was(hand: OwnerSession) -> None:
    hand.commit(3, state=b"first")
    held = hand.run().last_seq
    assert hand.commit(5) == "ok"
    at = hand.run()
    assert (at.state_seq, at.last_seq) == (held, held + 5)
    assert Checkpoint.objects.get(portfolio=hand.portfolio).seq == held


def test_everything_of_a_commit_is_written_with_the_epoch_that_passed_the_fence(
    hand: OwnerSession,
) -> None:
    at = hand.run()
    seq = at.last_seq + 1
    rows: dict[str, Any] = {"orders": [order_line(seq)], "fills": [a_fill(seq, seq + 1)]}
    point = EquityLine(seq + 1, AT_US, "100000.5")
    assert hand.commit(2, **rows, equity=[point], suppress=True) == "ok"
    assert written(hand) == (1, 1, 1, 1)
    order = Order.objects.get()
    assert order.id == f"{hand.portfolio.uid}-{seq}-0"
    assert (order.epoch, order.node, order.revision) == (at.epoch, "node-1", 1)
    assert (order.quantity, order.price) == (Decimal("10.0000"), Decimal("12.5000"))
    assert EquityPoint.objects.get().equity == Decimal("100000.5000")
    suppression = Suppression.objects.get()
    assert (suppression.from_seq, suppression.to_seq) == (seq, seq + 1)


def test_an_empty_commit_records_no_suppressed_range(hand: OwnerSession) -> None:
    assert hand.commit(0, suppress=True) == "ok"
    assert written(hand) == (0, 0, 0, 0)


def test_an_order_is_filled_in_its_own_commit_or_in_a_later_one(hand: OwnerSession) -> None:
    seq = hand.run().last_seq + 1
    orders = [order_line(seq), order_line(seq, 1)]
    hand.commit(2, orders=orders, fills=[a_fill(seq, seq + 1)])
    first, second = Order.objects.order_by("index")
    assert (first.status, second.status) == ("filled", "open")
    assert Fill.objects.get().order == first
    hand.commit(1, fills=[msgspec.structs.replace(a_fill(seq, seq + 2), order_index=1)])
    assert Order.objects.get(index=1).status == "filled"


def test_a_repeat_of_the_same_batch_is_ok_and_writes_nothing_again(hand: OwnerSession) -> None:
    seq = hand.run().last_seq + 1
    message = hand.next_commit(2, orders=[order_line(seq)], equity=[EquityLine(seq, AT_US, "1")])
    assert hand.send(message).answer == "ok"
    rows, last = written(hand), hand.run().last_seq
    assert hand.send(message).answer == "ok"
    assert (written(hand), hand.run().last_seq) == (rows, last)


@pytest.mark.parametrize("off", [-1, 1])
def test_a_commit_from_another_seq_is_a_conflict_and_writes_nothing(
    hand: OwnerSession, off: int
) -> None:
    hand.commit(10)
    last = hand.run().last_seq
    seq = last + 5
    message = hand.next_commit(1, from_seq=last + off, to_seq=seq, orders=[order_line(seq)])
    assert hand.send(message).answer == "conflict"
    assert written(hand) == (0, 0, 0, 0)
    assert hand.run().last_seq == last


def test_a_commit_of_an_epoch_that_was_not_granted_yet_is_answered_ahead(
    hand: OwnerSession,
) -> None:
    assert hand.commit(epoch=hand.run().epoch + 1) == "ahead"


def test_nothing_is_accepted_from_an_epoch_once_a_higher_one_exists(hand: OwnerSession) -> None:
    message = hand.next_commit(1, orders=[order_line(hand.run().last_seq + 1)], state=b"zombie")
    assert give(hand, make_node("node-2"))
    assert hand.send(message).answer == "fenced"
    assert written(hand) == (0, 0, 0, 0)
    event = Event.objects.get(kind="commit_refused")
    assert event.data["orders"] == 1
    stale = message.epoch
    assert event.reason == f"epoch {stale} was refused: the epoch is {stale + 1} now"


def test_refused_commits_of_a_former_owner_are_counted_in_one_audit_line_per_epoch(
    hand: OwnerSession,
) -> None:
    other = make_node("node-2")
    zombies = [make_trader(name, hand.daemon) for name in ("q", "r")]
    messages = [zombie.next_commit(1) for zombie in zombies]
    for zombie in zombies:
        give(zombie, other)
    for _ in range(3):
        hand.daemon.send(*messages)
    lines = Event.objects.filter(kind="commit_refused").order_by("portfolio")
    assert [line.data["times"] for line in lines] == [3, 3]
    assert [line.portfolio_id for line in lines] == [zombie.portfolio.pk for zombie in zombies]
    lines.update(at=ago(3601))
    hand.daemon.send(messages[0])
    assert [line.data["times"] for line in lines.filter(portfolio__name="q")] == [3, 1]


def test_refused_commits_without_a_tenure_have_a_bounded_number_of_audit_lines(
    hand: OwnerSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduling.enact.commit_refusals.MAX_WITHOUT_TENURE", 2)
    other = make_node("node-2")
    hands = [hand, *(make_trader(name, hand.daemon) for name in ("q", "r", "s"))]
    messages = [each.next_commit(1) for each in hands]
    other.send(messages[0])
    other.send(*messages)
    other.send(*(msgspec.structs.replace(each, epoch=each.epoch - 1) for each in messages))
    lines = Event.objects.filter(kind="commit_refused").order_by("portfolio")
    assert {(line.node, line.data["granted"]) for line in lines} == {(other.row, False)}
    told = [(line.portfolio_id, line.data["times"], "shared" in line.data) for line in lines]
    p, q, r, _ = (each.portfolio.pk for each in hands)
    assert told == [(p, 3, False), (q, 2, False), (r, 4, True)]
    assert [audit_sentence(line).split(" refused")[0] for line in lines[1:]] == [
        f"commit of epoch {messages[1].epoch}",
        f"commits of further portfolios, first of epoch {messages[2].epoch},",
    ]
    assert "4 times in an hour" in audit_sentence(lines[2])


def test_current_epoch_from_another_node_is_fenced(hand: OwnerSession) -> None:
    other = make_node("node-2")
    message = hand.next_commit(1)
    assert other.send(message)[0].answer == "fenced"
    # So it is from the same node with an incarnation that never registered.
    assert FakeNode(hand.daemon.row, uuid4()).send(message)[0].answer == "fenced"


def give(hand: OwnerSession, other: FakeNode, *, epochs_ago: int = 0) -> bool:
    """Grant the portfolio to another node behind its owner's back. Return whether it was."""
    new_owner = Owner(other.row.pk, other.incarnation, 1)
    epoch = hand.run().epoch - epochs_ago
    return execute(grant(hand.portfolio.pk, epoch, new_owner, GrantCause("failover"))) is not None


def test_grant_on_an_old_epoch_writes_nothing(hand: OwnerSession) -> None:
    other, at = make_node("node-2"), hand.run()
    assert not give(hand, other, epochs_ago=1)
    assert (hand.run().epoch, hand.run().node_id) == (at.epoch, at.node_id)
    assert Tenure.objects.filter(portfolio=hand.portfolio).count() == 1
    assert hand.commit(1) == "ok"


def test_commits_without_rows_are_accepted_with_and_without_a_state() -> None:
    node = make_node("node-1")
    hands = [make_trader(name, node) for name in ("a", "b", "c")]
    states = (None, b"", b"\x00\xff")
    assert [r.answer for r in node.send(*(h.next_commit(1) for h in hands))] == ["ok", "ok", "ok"]
    messages = [h.next_commit(1, state=state) for h, state in zip(hands, states, strict=True)]
    assert [r.answer for r in node.send(*messages)] == ["ok", "ok", "ok"]
    stored = [bytes(Checkpoint.objects.get(portfolio=h.portfolio).state) for h in hands[1:]]
    assert stored == [b"", b"\x00\xff"]
    assert Checkpoint.objects.get(portfolio=hands[0].portfolio).state != b""


def test_the_first_commit_of_an_epoch_is_written_on_its_tenure(hand: OwnerSession) -> None:
    tenure = Tenure.objects.get(portfolio=hand.portfolio, epoch=hand.run().epoch)
    assert tenure.first_commit_at == hand.run().first_commit_at


MARKET_ORDER = OrderLine(1, 0, "IBM", "buy", "1", "60", "open", "", 0)


def a_limit(seq: int, index: int = 0) -> OrderLine:
    limit = {"kind": "limit", "limit_price": "12.12345", "time_in_force": "ioc", "tag": "dip"}
    return order_line(seq, index, **limit)


def test_an_order_keeps_its_kind_its_prices_and_its_tag(hand: OwnerSession) -> None:
    seq = hand.run().last_seq + 1
    fill = FillLine(seq, 0, seq + 1, 0, "IBM", "buy", "10", "12.12345", AT_US, "1.25")
    assert hand.commit(2, orders=[a_limit(seq), order_line(seq, 1)], fills=[fill]) == "ok"
    limit, market = Order.objects.order_by("index")
    assert (limit.kind, limit.limit_price, limit.stop_price) == ("limit", Decimal("12.12345"), None)
    assert (limit.time_in_force, limit.tag, limit.ended_seq) == ("ioc", "dip", None)
    assert (market.kind, market.limit_price, market.time_in_force) == ("market", None, "gtc")
    stored = Fill.objects.get()
    assert (stored.price, stored.fee) == (Decimal("12.12345"), Decimal("1.2500"))


def test_an_order_ends_in_its_own_commit_or_in_a_later_one(hand: OwnerSession) -> None:
    seq = hand.run().last_seq + 1
    first = OrderEndLine(seq, 0, seq + 1, "expired", "not filled")
    assert hand.commit(2, orders=[a_limit(seq), a_limit(seq, 1)], ended=[first]) == "ok"
    assert hand.commit(1, ended=[OrderEndLine(seq, 1, seq + 2, "cancelled", "")]) == "ok"
    ends = Order.objects.order_by("index").values_list("status", "reason", "ended_seq")
    assert list(ends) == [("expired", "not filled", seq + 1), ("cancelled", "", seq + 2)]


def test_an_order_that_was_filled_does_not_end_again(hand: OwnerSession) -> None:
    seq = hand.run().last_seq + 1
    hand.commit(2, orders=[a_limit(seq)], fills=[a_fill(seq, seq + 1)])
    assert hand.commit(1, ended=[OrderEndLine(seq, 0, seq + 2, "cancelled", "")]) == "ok"
    assert Order.objects.get().status == "filled"


def make_commit(**given: Any) -> Commit:
    return Commit(portfolio=1, epoch=1, from_seq=0, to_seq=1, batch=str(uuid4()), **given)


def an_end(
    order_seq: int, index: int = 0, *, seq: int = 1, status: str = "expired", reason: int = 0
) -> OrderEndLine:
    """Return the end of an order, with so many characters of a reason."""
    return OrderEndLine(order_seq, index, seq, status, "x" * reason)


REFUSED_ORDER = msgspec.structs.replace(MARKET_ORDER, status="refused", reason="x" * 601)
ORDER_WITH_UNKNOWN_TIME = msgspec.structs.replace(MARKET_ORDER, time_in_force="good")


INVALID: dict[str, dict[str, Any]] = {
    "an order of seq 9 ends before it, at seq 1": {"ended": [an_end(9)]},
    "the status 'lost' is not one of cancelled, expired": {"ended": [an_end(1, status="lost")]},
    "the index -1 of an order or fill lies outside 0 to": {"ended": [an_end(1, -1)]},
    "seq 2 of an order, the end of an order, a fill,": {"ended": [an_end(1, seq=2)]},
    "the reason of an order or its end has 601 characters": {"ended": [an_end(1, reason=601)]},
    "the reason of an order or its end has 601": {"orders": [REFUSED_ORDER]},
    "the time in force 'good' is not gtc or ioc": {"orders": [ORDER_WITH_UNKNOWN_TIME]},
    "'a\\nb' is not the name of a metric": {"metrics": [MetricLine(1, AT_US, "a\nb", 1.0)]},
    "the metric n is inf, not a finite": {"metrics": [MetricLine(1, AT_US, "n", float("inf"))]},
}


@pytest.mark.parametrize("error", INVALID)
def test_a_commit_with_an_invalid_line_is_refused(error: str) -> None:
    assert validate_commit(make_commit(**INVALID[error])).startswith(error)
    longest = msgspec.structs.replace(REFUSED_ORDER, reason="x" * 600)
    assert validate_commit(make_commit(orders=[longest])) == ""


def test_metrics_are_kept_with_the_commit(hand: OwnerSession) -> None:
    seq = hand.run().last_seq + 1
    rows = [MetricLine(seq, AT_US, "spread", 0.25), MetricLine(seq, AT_US, "z", -1e300)]
    assert hand.commit(1, metrics=rows) == "ok"
    stored = MetricPoint.objects.filter(portfolio=hand.portfolio).order_by("name")
    assert [(p.seq, p.name, p.value) for p in stored] == [(seq, "spread", 0.25), (seq, "z", -1e300)]


RARE: list[dict[str, Any]] = [
    {"metrics": [MetricLine(1, 0, "spread", 0.5)]},
    {"ended": [OrderEndLine(1, 0, 1, "expired", "")]},
    {"orders": [msgspec.structs.replace(MARKET_ORDER, kind="stop")]},
    {"orders": [msgspec.structs.replace(MARKET_ORDER, time_in_force="ioc")]},
    {"orders": [msgspec.structs.replace(MARKET_ORDER, tag="entry")]},
]


@pytest.mark.parametrize("rare", RARE)
def test_requests_with_metrics_order_ends_or_unusual_orders_are_not_plain(
    rare: dict[str, Any],
) -> None:
    plain = make_commit(orders=[MARKET_ORDER])
    assert are_plain([plain, plain])
    assert not are_plain([plain, msgspec.structs.replace(plain, **rare)])
