"""Verifications go on from where an earlier one ended, as long as the evidence before it holds."""

from __future__ import annotations

import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django_q.models import OrmQ

import portfolios.verify.verify
from portfolios.feeds import open_feed
from portfolios.models import (
    ArchivedRange,
    Checkpoint,
    EquityPoint,
    FeedSegment,
    Fill,
    Order,
    Portfolio,
    Suppression,
)
from portfolios.runtime.events import decode_events
from portfolios.runtime.messages import Batch, Load, Reply
from portfolios.runtime.worker import PortfolioWorker
from portfolios.verify.compare_state import without_event_count
from scheduling import operations, tasks
from scheduling.models import Alert, Tenure, Verification, VerificationAnchor
from scheduling.retention import delete_rows, verified_to
from scheduling.scheduler import Scheduler
from scheduling.verification import background, verify
from scheduling.verification.runner import run_waiting
from scheduling.verification.verify import verify_portfolio
from tests.support.api_client import ApiClient
from tests.support.factories import (
    FakeNode,
    ago,
    make_node,
    make_portfolio,
    make_running_portfolio,
    owner,
)

pytestmark = pytest.mark.django_db

NAME = "trader"
SYMBOLS = ["GE", "IBM", "KO", "XOM"]
CONFIG = {"fast": 1, "slow": 2}


class Replays:
    """Counts the events that the process of the replay was given."""

    def __init__(self) -> None:
        self.events = 0

    def process(self, code_of: Any, **limits: Any) -> Any:
        answer = PortfolioWorker().answer

        def ask(request: Load | Batch) -> Reply:
            if isinstance(request, Batch):
                self.events += len(decode_events(request.events))
            return answer(request)

        return nullcontext(ask)

    def of(self, name: str = NAME, **how: Any) -> tuple[int, Any]:
        """Verify; return how many events were replayed, and the verdict."""
        self.events = 0
        verdict = verify_portfolio(name, **how)
        return self.events, verdict


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Replays:
    """Replay in this process, and count."""
    found = Replays()
    monkeypatch.setattr(verify, "replay_processes", found.process)
    return found


@pytest.fixture
def node() -> FakeNode:
    return make_node("node-1")


@pytest.fixture
def trader(node: FakeNode, replays: Replays) -> Portfolio:
    """Return a portfolio that traded for 8,000 events and was verified."""
    portfolio = make_running_portfolio(
        NAME, node, events=8_000, strategy="sma_cross", config=CONFIG, symbols=SYMBOLS
    )
    assert verify_portfolio(NAME).identical
    return portfolio


def seen(portfolio: Portfolio, first: int, events: int) -> int:
    """Return how many of these events of the log are of its symbols."""
    begin = portfolio.first_seq + first
    return len(open_feed().read_for(frozenset(SYMBOLS), begin, begin + events - 1))


def anchors(name: str = NAME) -> list[int]:
    return [a.seq for a in VerificationAnchor.objects.filter(portfolio__name=name)]


# --- what is replayed is what is new -------------------------------------------------------------


def test_what_a_verification_replays_is_bounded_by_what_is_new(
    node: FakeNode, replays: Replays
) -> None:
    portfolio = make_running_portfolio(NAME, node, events=20_000)
    assert replays.of()[0] == 20_000
    for new in (100, 3_000, 1):
        assert node.commit(NAME, new) == "ok"
        events, verdict = replays.of()
        assert verdict.identical and events == new
    assert replays.of()[0] == 0
    assert portfolio.first_seq + 23_100 == anchors()[0]


def test_the_sentence_says_how_much_was_replayed_now_and_from_where(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    assert node.commit(NAME, 2_000) == "ok"
    events, verdict = replays.of()
    new, begin = seen(trader, 8_000, 2_000), trader.first_seq + 8_000
    assert events == verdict.compared.replayed == new
    assert verdict.sentence.startswith(f"identical over {seen(trader, 0, 10_000)} events, ")
    assert f"; {new} of the events replayed now, from seq {begin:,}, the others" in verdict.sentence
    document = verdict.document()
    assert (document["events_replayed"], document["replayed_from_seq"]) == (new, begin)
    assert document["from_seq"] == trader.first_seq
    counts = verdict.compared.counts
    assert counts.orders == Order.objects.filter(portfolio=trader).count()
    assert counts.fills == Fill.objects.filter(portfolio=trader).count()
    assert counts.equity == EquityPoint.objects.filter(portfolio=trader).count()


def test_a_full_verification_replays_everything_with_the_same_result(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    assert node.commit(NAME, 2_000) == "ok"
    events, verdict = replays.of(full=True)
    assert events == seen(trader, 0, 10_000)
    assert verdict.identical and verdict.verified_at is None
    assert "replayed now" not in verdict.sentence
    again = verify_portfolio(NAME)
    assert again.compared.counts == verdict.compared.counts
    assert again.compared.state_digest == verdict.compared.state_digest


def test_moves_reloads_and_suppression_behind_an_anchor_are_identical(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    two = make_node("node-2")
    handoff = operations.migrate(NAME, "node-2", actor="ann")
    assert two.ready(handoff) == "draining"
    assert owner(NAME, node).release(handoff).answer == "handed_over"
    assert two.commit(NAME) == "ok"  # an empty first commit: the anchor's seq is its begin
    assert verify_portfolio(NAME).identical
    assert two.commit(NAME, 1_000, suppress=True) == "ok"
    assert verify_portfolio(NAME).identical
    assert two.commit(NAME, 1_500, suppress=True) == "ok"
    assert two.commit(NAME, 1_500) == "ok"
    assert verify_portfolio(NAME).identical
    assert verify_portfolio(NAME, full=True).identical


def test_an_anchor_where_a_new_revision_had_adapted_the_state_already(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    changes: dict[str, Any] = {"config": {"fast": 2, "slow": 4}}
    _, handoff = operations.revise_portfolio(NAME, changes, actor="ann")
    assert handoff is not None and node.ready(handoff) == "draining"
    assert owner(NAME, node).release(handoff).answer == "handed_over"
    assert node.commit(NAME) == "ok"
    assert verify_portfolio(NAME).identical
    assert [a.epoch for a in VerificationAnchor.objects.all()] == [2, 1]
    assert node.commit(NAME, 3_000) == "ok"
    events, verdict = replays.of()
    assert verdict.identical, verdict.sentence
    assert events == seen(trader, 8_000, 3_000)


def test_an_order_that_waits_at_the_anchor_is_compared_when_it_is_filled(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    waiting = Order.objects.filter(portfolio=trader, status="open")
    for _ in range(100):
        if (order := waiting.first()) is not None:
            break
        node.commit(NAME, 94)
    assert order is not None
    assert verify_portfolio(NAME).identical
    anchor = VerificationAnchor.objects.latest("seq")
    assert [order.seq, order.index] in anchor.open_orders
    assert node.commit(NAME, 2_000) == "ok"
    assert order.fills.exists()
    Order.objects.filter(pk=order.pk).update(status="open")
    found = verify_portfolio(NAME).compared.difference
    assert found is not None and found.field == "status after its fill"
    Order.objects.filter(pk=order.pk).update(status="filled")
    assert verify_portfolio(NAME).identical


def test_verification_of_the_log_up_to_a_seq_stores_an_anchor(
    trader: Portfolio, replays: Replays
) -> None:
    VerificationAnchor.objects.all().delete()
    to_seq = trader.first_seq + 4_999
    assert verify_portfolio(NAME, to_seq).identical
    events, verdict = replays.of()
    assert verdict.identical and events == seen(trader, 5_000, 3_000)
    assert anchors() == [trader.first_seq + 7_999, to_seq]


# --- evidence that changed -----------------------------------------------------------------------


def touched(what: Any, **changes: Any) -> None:
    type(what).objects.filter(pk=what.pk).update(**changes)


@pytest.mark.parametrize("kind", ["order", "fill", "equity", "state of an order", "missing order"])
def test_a_row_that_was_changed_before_the_anchor_is_found(
    trader: Portfolio, node: FakeNode, replays: Replays, kind: str
) -> None:
    orders = Order.objects.filter(portfolio=trader, status="filled").order_by("seq")
    assert node.commit(NAME, 500) == "ok"
    if kind == "order":
        touched(orders[3], price=orders[3].price + Decimal("0.01"))
    elif kind == "fill":
        fill = Fill.objects.filter(portfolio=trader).earliest("fill_seq")
        touched(fill, quantity=fill.quantity + 1)
    elif kind == "equity":
        point = EquityPoint.objects.filter(portfolio=trader)[3]
        touched(point, equity=point.equity + 1)
    elif kind == "state of an order":
        touched(orders[3], status="open")
    else:
        orders[3].delete()
    verdict = verify_portfolio(NAME)
    assert verdict.compared.difference is not None
    assert verdict.compared.difference.seq < trader.first_seq + 8_000
    at = trader.first_seq + 7_999
    assert verdict.notes[0].startswith(f"Rows or inputs before seq {at} have changed since")


@pytest.mark.parametrize("status", ["cancelled", "expired"])
@pytest.mark.parametrize("has_end", [True, False])
def test_another_outcome_of_an_order_before_the_anchor_is_found(
    trader: Portfolio, node: FakeNode, status: str, has_end: bool
) -> None:
    orders = Order.objects.filter(portfolio=trader, status="filled").order_by("seq")
    assert node.commit(NAME, 500) == "ok"
    order = orders[3]
    end = {"ended_seq": order.seq + 1, "reason": "by the strategy"} if has_end else {}
    touched(order, status=status, **end)
    assert not verify_portfolio(NAME).identical


def test_a_row_that_is_changed_after_it_was_compared_is_found_by_the_next_one(
    trader: Portfolio, node: FakeNode, replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolios.verify.verify, "WINDOW", 500)
    assert node.commit(NAME, 2_000) == "ok"
    order = Order.objects.filter(portfolio=trader, seq__gt=trader.first_seq + 8_000).earliest("seq")

    def progress(first: int, at: int, last: int) -> None:
        if at > order.seq + 1_000:
            touched(order, price=order.price + 1)

    _, verdict = replays.of(progress=progress)
    assert verdict.identical
    assert Order.objects.get(pk=order.pk).price != order.price
    _, verdict = replays.of()
    assert verdict.compared.difference is not None
    assert verdict.compared.difference.seq == order.seq


def test_only_the_anchors_behind_a_change_are_invalid(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    first_anchor = trader.first_seq + 7_999
    assert node.commit(NAME, 4_000) == "ok"
    assert verify_portfolio(NAME).identical
    order = Order.objects.filter(portfolio=trader, seq__gt=first_anchor).earliest("seq")
    touched(order, price=order.price + 1)
    verdict = verify_portfolio(NAME)
    assert verdict.compared.replayed_from == first_anchor + 1
    assert verdict.compared.difference is not None
    assert verdict.compared.difference.seq == order.seq
    touched(order, price=order.price)  # back: the anchor holds again
    assert replays.of()[0] == 0


@pytest.mark.parametrize("kind", ["tenure", "suppression", "segment", "cash"])
def test_inputs_that_changed_before_the_anchor_invalidate_it(
    trader: Portfolio, node: FakeNode, replays: Replays, kind: str
) -> None:
    if kind == "tenure":
        Tenure.objects.filter(portfolio=trader).update(from_seq=trader.first_seq + 1)
    elif kind == "suppression":
        first = trader.first_seq
        Suppression.objects.create(portfolio=trader, from_seq=first, to_seq=first + 99, epoch=1)
    elif kind == "segment":
        FeedSegment.objects.update(from_time=ago(7_200))
    else:
        Portfolio.objects.update(starting_cash=5)
    assert verify_portfolio(NAME).compared.replayed_from == trader.first_seq


def test_changed_but_identical_portfolios_get_new_anchors(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    VerificationAnchor.objects.update(sums={k: [0, "0"] for k in ("orders", "fills", "equity")})
    events, verdict = replays.of()
    assert verdict.identical and events == seen(trader, 0, 8_000)
    assert verdict.notes[0].startswith("Rows or inputs before")
    assert replays.of()[0] == 0


def test_a_difference_leaves_no_anchor(trader: Portfolio, node: FakeNode, replays: Replays) -> None:
    assert node.commit(NAME, 2_000) == "ok"
    Checkpoint.objects.update(state=b"nonsense")
    assert verify_portfolio(NAME).compared.difference is not None
    assert anchors() == [trader.first_seq + 7_999]


def test_a_count_that_begins_behind_an_anchor(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    row = Checkpoint.objects.get(portfolio=trader)
    Checkpoint.objects.update(state=without_event_count(bytes(row.state)))
    assert verify_portfolio(NAME).identical
    assert node.commit(NAME, 2_000) == "ok"
    events, verdict = replays.of()
    assert verdict.identical and events == seen(trader, 8_000, 2_000)
    assert verdict.compared.processed is not None
    assert verdict.compared.processed.since == trader.first_seq + 8_000
    assert verify_portfolio(NAME, full=True).identical


# --- bounds --------------------------------------------------------------------------------------


def test_a_few_anchors_are_kept_and_one_of_each_month(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    for _ in range(6):
        assert node.commit(NAME, 10) == "ok"
        assert verify_portfolio(NAME).identical
    last = trader.first_seq + 8_059
    assert anchors() == [last, last - 10, last - 20, last - 30]
    # The oldest was the last of a month before: it stays, and those of this month go.
    old = VerificationAnchor.objects.get(seq=last - 30)
    touched(old, at=datetime.now(UTC) - timedelta(days=62))
    for _ in range(5):
        assert node.commit(NAME, 10) == "ok"
        assert verify_portfolio(NAME).identical
    assert anchors() == [last + 50, last + 40, last + 30, last + 20, last - 30]
    assert replays.of()[0] == 0


def archive_before(portfolio: Portfolio, seq: int) -> None:
    """Let the partitions below `seq` be gone."""
    for rows, column in ((Order, "seq"), (Fill, "fill_seq"), (EquityPoint, "seq")):
        found: Any = rows.objects.filter(portfolio=portfolio, **{f"{column}__lt": seq})  # type: ignore[attr-defined]
        found._raw_delete(found.db)  # fills of later seqs stay
        ArchivedRange.objects.create(
            portfolio=portfolio, kind=rows._meta.db_table,  # type: ignore[attr-defined]
            from_seq=portfolio.first_seq, to_seq=seq - 1,
        )  # fmt: skip


def test_a_verification_continues_from_an_anchor_when_earlier_rows_are_archived(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    assert node.commit(NAME, 4_000) == "ok"
    archive_before(trader, trader.first_seq + 7_000)
    events, verdict = replays.of()
    assert verdict.identical and verdict.notes == ()
    assert events == seen(trader, 8_000, 4_000)
    events, verdict = replays.of(full=True)
    assert verdict.identical and events == seen(trader, 8_000, 4_000)
    at = trader.first_seq + 7_000
    assert verdict.notes[0].startswith(f"Orders and fills before seq {at} are archived")
    # What is still stored is still looked at.
    Order.objects.filter(portfolio=trader, seq__gt=trader.first_seq + 8_000)[1].delete()
    assert verify_portfolio(NAME).compared.difference is not None


def test_the_first_seq_that_a_verification_needs_is_known_for_each_portfolio(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    make_running_portfolio("two", node, events=10)
    two = Portfolio.objects.get(name="two")
    reached = trader.first_seq + 8_000 - 1
    assert verified_to() == {trader.pk: reached, two.pk: two.first_seq - 1}
    assert replays.of("two")[1].identical
    assert verified_to() == {trader.pk: reached, two.pk: two.first_seq + 9}


def test_without_an_anchor_what_is_archived_is_counted_and_not_missed(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    VerificationAnchor.objects.all().delete()
    gone = trader.first_seq + 4_000
    rows = (
        Order.objects.filter(seq__lt=gone).count() + Fill.objects.filter(fill_seq__lt=gone).count()
    )
    archive_before(trader, gone)
    verdict = verify_portfolio(NAME)
    assert verdict.identical, verdict.sentence
    assert verdict.compared.counts.rows_dropped == rows > 10
    assert f"{rows} orders and fills were not compared: they are archived." in verdict.notes
    assert replays.of()[0] == 0


def test_a_row_is_missed_if_it_is_not_among_the_archived_ones(
    trader: Portfolio, replays: Replays
) -> None:
    VerificationAnchor.objects.all().delete()
    first, lost, *_ = Order.objects.filter(portfolio=trader).order_by("seq")
    archive_before(trader, first.seq + 1)
    # A later partition is archived, and the one between them is kept.
    ArchivedRange.objects.create(
        portfolio=trader, kind="portfolios_order", from_seq=lost.seq + 1, to_seq=lost.seq + 1
    )
    assert verify_portfolio(NAME).identical
    VerificationAnchor.objects.all().delete()
    lost.delete()
    found = verify_portfolio(NAME).compared.difference
    assert found is not None and (found.seq, found.found) == (lost.seq, "missing")


def test_an_order_that_outlived_its_partition_is_not_missed_after_its_end(
    trader: Portfolio, node: FakeNode, replays: Replays
) -> None:
    """It is open at an anchor, ends, and is archived."""
    anchor = VerificationAnchor.objects.get()
    ended = Order.objects.filter(portfolio=trader, status="filled").earliest("seq")
    anchor.open_orders = [*anchor.open_orders, [ended.seq, ended.index]]
    anchor.save()
    ended.delete()
    assert node.commit(NAME, 100) == "ok"
    assert verify_portfolio(NAME).compared.difference is not None
    archive_before(trader, ended.seq + 1)
    assert verify_portfolio(NAME).identical


# --- in the background ---------------------------------------------------------------------------


def test_a_verification_ends_at_its_time_limit_and_the_next_continues_from_there(
    trader: Portfolio, node: FakeNode, replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    VerificationAnchor.objects.all().delete()
    monkeypatch.setattr("portfolios.verify.verify.WINDOW", 3_000)
    reached = []
    for _ in range(3):
        verdict = verify_portfolio(NAME, limit_s=0.0)
        assert verdict.identical
        reached.append(verdict.compared.to_seq - trader.first_seq + 1)
    assert reached == [3_000, 6_000, 8_000]
    assert verdict.compared.state_digest is not None
    assert verify_portfolio(NAME, full=True).compared.counts == verdict.compared.counts


def test_portfolios_not_verified_for_long_are_requested_and_verified(
    trader: Portfolio, node: FakeNode, replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    monkeypatch.setattr(background, "start_runner", lambda: started.append(1))
    make_portfolio("idle")  # has committed nothing
    make_running_portfolio("canary", node, events=100)
    assert node.commit(NAME, 500) == "ok"
    assert tasks.verify_in_background() == "0 requested"  # they are not older than an interval
    Portfolio.objects.update(created_at=ago(4_000))
    assert tasks.verify_in_background() == "2 requested"
    assert tasks.verify_in_background() == "0 requested"
    assert started == [1]
    asked = Verification.objects.get(portfolio=trader)
    assert (asked.requested_by, asked.limit_s, asked.full) == ("schedule", 60.0, False)
    assert run_waiting() == 2
    assert set(Verification.objects.values_list("state", flat=True)) == {"identical"}
    assert tasks.verify_in_background() == "0 requested"
    Verification.objects.update(requested_at=ago(4_000))
    assert tasks.verify_in_background() == "0 requested"  # nothing is new
    assert node.commit(NAME, 10) == "ok"
    assert tasks.verify_in_background() == "1 requested"


def test_a_person_goes_before_the_schedule_and_zero_turns_it_off(
    trader: Portfolio, node: FakeNode, replays: Replays, operator: ApiClient, settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from dataclasses import replace

    from scheduling.db.transaction import execute
    from scheduling.verification.queue import claim
    from tests.integration.interfaces.test_verification_interfaces import uuid4

    monkeypatch.setattr(background, "start_runner", lambda: 1)
    assert node.commit(NAME, 10) == "ok"
    every = settings.GINKGO
    settings.GINKGO = replace(every, verify_interval_s=0.0)
    assert tasks.verify_in_background() == "0 requested"
    settings.GINKGO = every
    Portfolio.objects.update(created_at=ago(4_000))
    assert tasks.verify_in_background() == "1 requested"
    make_portfolio("two")
    operator.post("portfolios/two/verification/")
    first = execute(claim(uuid4(), 9))
    assert first is not None and first.name == "two"
    # Who asks for what the schedule asked for, and nobody took yet, has it.
    asked = operator.post(f"portfolios/{NAME}/verification/", {"full": True})
    assert (asked.status_code, asked.json()["requested_by"]) == (202, "olive")
    second = execute(claim(uuid4(), 9))
    assert second is not None and (second.name, second.full, second.limit_s) == (NAME, True, None)


def test_a_difference_that_the_schedule_finds_is_an_alert_until_it_is_gone(
    trader: Portfolio, node: FakeNode, replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "start_runner", lambda: 1)

    def open_alerts() -> list[str]:
        Scheduler("test").tick()
        found = Alert.objects.filter(kind="verification_differs", closed_at__isnull=True)
        return list(found.values_list("reason", flat=True))

    assert node.commit(NAME, 500) == "ok"
    Portfolio.objects.update(created_at=ago(4_000))
    order = Order.objects.filter(portfolio=trader).earliest("seq")
    touched(order, price=order.price + 1)
    tasks.verify_in_background()
    assert run_waiting() == 1
    (reason,) = open_alerts()
    assert reason.startswith(f"its verification is different at seq {order.seq}: ")
    touched(order, price=order.price)
    Verification.objects.update(requested_at=ago(4_000))
    tasks.verify_in_background()
    assert open_alerts() == [reason]  # not yet
    assert run_waiting() == 1
    assert open_alerts() == []


def test_a_verification_that_fails_or_ends_before_the_difference_keeps_the_alert_open(
    trader: Portfolio, node: FakeNode, replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "start_runner", lambda: 1)

    def is_told() -> bool:
        Scheduler("test").tick()
        return Alert.objects.filter(kind="verification_differs", closed_at__isnull=True).exists()

    order = Order.objects.filter(portfolio=trader).latest("seq")
    touched(order, price=order.price + 1)
    node.commit(NAME, 100)
    Portfolio.objects.update(created_at=ago(4_000))
    tasks.verify_in_background()
    assert run_waiting() == 1
    different = Verification.objects.get(state="different")
    assert is_told()
    later = {"portfolio": trader, "requested_at": ago(0), "finished_at": ago(0)}
    Verification.objects.create(state="identical", to_seq=order.seq - 1, **later)
    assert is_told()
    for _ in range(25):
        Verification.objects.create(state="failed", **later)
    delete_rows(time.monotonic() + 10)
    assert is_told()
    Verification.objects.create(state="identical", to_seq=different.to_seq, **later)
    assert not is_told()


# --- asked for -----------------------------------------------------------------------------------


def test_api_and_command_take_full(
    trader: Portfolio, replays: Replays, operator: ApiClient, capsys: Any
) -> None:
    path = f"portfolios/{NAME}/verification/"
    assert operator.post(path, {"full": True}).status_code == 202
    assert OrmQ.objects.count() == 1
    run_waiting()
    assert operator.get(path).json()["events_replayed"] == seen(trader, 0, 8_000)
    operator.post(path)
    run_waiting()
    document = operator.get(path).json()
    assert document["events_replayed"] == 0
    assert document["replayed_from_seq"] == trader.first_seq + 8_000
    assert document["verified_before_at"].endswith("Z")
    assert len(document["events_digest"]) == 16
    call_command("verify_portfolio", NAME)
    assert "0 of the events replayed now" in capsys.readouterr().out
    call_command("verify_portfolio", NAME, "--full")
    assert "replayed now" not in capsys.readouterr().out
