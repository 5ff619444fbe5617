"""Verifications continue at the anchor of an earlier one while the evidence before it is equal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django_q.models import OrmQ

import portfolios.verify.verify
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
from portfolios.verify.compare_state import without_event_count
from scheduling.models import Tenure, VerificationAnchor
from scheduling.retention import verified_to
from scheduling.verification.runner import run_waiting
from scheduling.verification.verify import verify_portfolio
from tests.support.api_client import ApiClient
from tests.support.factories import FakeNode, ago, make_node, make_portfolio, make_running_portfolio
from tests.support.verified_trader import (
    NAME,
    Replays,
    anchors,
    difference,
    move,
    open_order,
    reload,
    seen,
    update_row,
)

pytestmark = pytest.mark.django_db

# --- what is replayed is what is new -------------------------------------------------------------


def test_a_verification_replays_only_the_events_after_the_last_anchor(
    node: FakeNode, replays: Replays
) -> None:
    canary = make_running_portfolio("canary", node, events=20_000)
    assert replays.of("canary")[0] == 20_000
    for new in (100, 3_000, 1):
        assert node.commit("canary", new) == "ok"
        events, verdict = replays.of("canary")
        assert verdict.identical and events == new
    assert replays.of("canary")[0] == 0
    assert canary.first_seq + 23_100 == anchors("canary")[0]


def test_verdict_says_how_much_was_replayed_now_and_from_where(
    anchored: Portfolio, node: FakeNode, replays: Replays
) -> None:
    assert node.commit(NAME, 2_000) == "ok"
    events, verdict = replays.of()
    new, begin = seen(anchored, 8_000, 2_000), anchored.first_seq + 8_000
    assert events == verdict.compared.replayed == new
    assert verdict.sentence.startswith(f"identical over {seen(anchored, 0, 10_000)} events, ")
    assert f"; {new} of the events replayed now, from seq {begin:,}, the others" in verdict.sentence
    document = verdict.document()
    assert (document["events_replayed"], document["replayed_from_seq"]) == (new, begin)
    assert document["from_seq"] == anchored.first_seq
    counts = verdict.compared.counts
    assert counts.orders == Order.objects.filter(portfolio=anchored).count()
    assert counts.fills == Fill.objects.filter(portfolio=anchored).count()
    assert counts.equity == EquityPoint.objects.filter(portfolio=anchored).count()


def test_full_verification_ignores_anchors_and_has_the_same_result(
    anchored: Portfolio, node: FakeNode, replays: Replays
) -> None:
    assert node.commit(NAME, 2_000) == "ok"
    events, verdict = replays.of(full=True)
    assert events == seen(anchored, 0, 10_000)
    assert verdict.identical and verdict.verified_at is None
    assert "replayed now" not in verdict.sentence
    again = verify_portfolio(NAME)
    assert again.compared.counts == verdict.compared.counts
    assert again.compared.state_digest == verdict.compared.state_digest


def test_verification_of_moves_and_suppression_after_an_anchor_is_identical(
    anchored: Portfolio, node: FakeNode
) -> None:
    two = make_node("node-2")
    move(node, two)  # with an empty first commit: the anchor's seq is its begin
    assert verify_portfolio(NAME).identical
    assert two.commit(NAME, 1_000, suppress=True) == "ok"
    assert verify_portfolio(NAME).identical
    assert two.commit(NAME, 1_500, suppress=True) == "ok"
    assert two.commit(NAME, 1_500) == "ok"
    assert verify_portfolio(NAME).identical
    assert verify_portfolio(NAME, full=True).identical


def test_verification_continues_at_an_anchor_just_after_a_reload(
    anchored: Portfolio, node: FakeNode, replays: Replays
) -> None:
    reload(node, fast=2, slow=4)
    assert node.commit(NAME) == "ok"
    assert verify_portfolio(NAME).identical
    assert [a.epoch for a in VerificationAnchor.objects.all()] == [2, 1]
    assert node.commit(NAME, 3_000) == "ok"
    events, verdict = replays.of()
    assert verdict.identical, verdict.sentence
    assert events == seen(anchored, 8_000, 3_000)


def test_an_order_that_waits_at_the_anchor_is_compared_when_it_is_filled(
    anchored: Portfolio, node: FakeNode
) -> None:
    order = open_order(anchored, node)
    assert verify_portfolio(NAME).identical
    assert [order.seq, order.index] in VerificationAnchor.objects.latest("seq").open_orders
    assert node.commit(NAME, 2_000) == "ok"
    assert order.fills.exists()
    Order.objects.filter(pk=order.pk).update(status="open")
    found = difference(verify_portfolio(NAME))
    assert (found.field, found.found, found.wanted) == ("status after its fill", "open", "filled")
    Order.objects.filter(pk=order.pk).update(status="filled")
    assert verify_portfolio(NAME).identical


def test_verification_of_the_log_up_to_a_seq_stores_an_anchor(
    anchored: Portfolio, replays: Replays
) -> None:
    VerificationAnchor.objects.all().delete()
    to_seq = anchored.first_seq + 4_999
    assert verify_portfolio(NAME, to_seq).identical
    events, verdict = replays.of()
    assert verdict.identical and events == seen(anchored, 5_000, 3_000)
    assert anchors() == [anchored.first_seq + 7_999, to_seq]


# --- evidence that changed -----------------------------------------------------------------------


@pytest.mark.parametrize("has_end", [True, False])
def test_changed_outcome_of_an_order_before_the_anchor_is_a_difference(
    anchored: Portfolio, node: FakeNode, has_end: bool
) -> None:
    orders = Order.objects.filter(portfolio=anchored, status="filled").order_by("seq")
    assert node.commit(NAME, 500) == "ok"
    order = orders[3]
    end = {"ended_seq": order.seq + 1, "reason": "by the strategy"} if has_end else {}
    update_row(order, status="cancelled", **end)
    verdict = verify_portfolio(NAME)
    assert difference(verdict).seq < anchored.first_seq + 8_000
    at = anchored.first_seq + 7_999
    assert verdict.notes[0].startswith(f"Rows or inputs before seq {at} have changed since")


def test_row_changed_after_its_comparison_is_found_by_the_next_verification(
    anchored: Portfolio, node: FakeNode, replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolios.verify.verify, "WINDOW", 500)
    assert node.commit(NAME, 2_000) == "ok"
    order = Order.objects.filter(seq__gt=anchored.first_seq + 8_000).earliest("seq")

    def progress(first: int, at: int, last: int) -> None:
        if at > order.seq + 1_000:
            update_row(order, price=order.price + 1)

    assert replays.of(progress=progress)[1].identical
    assert Order.objects.get(pk=order.pk).price != order.price
    assert difference(replays.of()[1]).seq == order.seq


def test_only_the_anchors_after_a_changed_row_are_invalid(
    anchored: Portfolio, node: FakeNode, replays: Replays
) -> None:
    first_anchor = anchored.first_seq + 7_999
    assert node.commit(NAME, 4_000) == "ok"
    assert verify_portfolio(NAME).identical
    order = Order.objects.filter(portfolio=anchored, seq__gt=first_anchor).earliest("seq")
    update_row(order, price=order.price + 1)
    verdict = verify_portfolio(NAME)
    assert verdict.compared.replayed_from == first_anchor + 1
    assert difference(verdict).seq == order.seq
    update_row(order, price=order.price)  # back: the anchor holds again
    assert replays.of()[0] == 0


@pytest.mark.parametrize("kind", ["tenure", "suppression", "segment", "cash"])
def test_changed_tenure_suppression_feed_segment_or_cash_invalidates_later_anchors(
    anchored: Portfolio, kind: str
) -> None:
    if kind == "tenure":
        Tenure.objects.filter(portfolio=anchored).update(from_seq=anchored.first_seq + 1)
    elif kind == "suppression":
        first = anchored.first_seq
        Suppression.objects.create(portfolio=anchored, from_seq=first, to_seq=first + 99, epoch=1)
    elif kind == "segment":
        FeedSegment.objects.update(from_time=ago(7_200))
    else:
        Portfolio.objects.update(starting_cash=5)
    assert verify_portfolio(NAME).compared.replayed_from == anchored.first_seq


def test_verification_that_ends_identical_replaces_invalid_anchors(
    anchored: Portfolio, replays: Replays
) -> None:
    VerificationAnchor.objects.update(sums={k: [0, "0"] for k in ("orders", "fills", "equity")})
    events, verdict = replays.of()
    assert verdict.identical and events == seen(anchored, 0, 8_000)
    assert verdict.notes[0].startswith("Rows or inputs before")
    assert replays.of()[0] == 0


def test_verification_that_finds_a_difference_stores_no_anchor(
    anchored: Portfolio, node: FakeNode
) -> None:
    assert node.commit(NAME, 2_000) == "ok"
    Checkpoint.objects.update(state=b"nonsense")
    assert verify_portfolio(NAME).compared.difference is not None
    assert anchors() == [anchored.first_seq + 7_999]


def test_event_count_that_begins_after_an_anchor_is_compared(
    anchored: Portfolio, node: FakeNode, replays: Replays
) -> None:
    row = Checkpoint.objects.get(portfolio=anchored)
    Checkpoint.objects.update(state=without_event_count(bytes(row.state)))
    assert verify_portfolio(NAME).identical
    assert node.commit(NAME, 2_000) == "ok"
    events, verdict = replays.of()
    assert verdict.identical and events == seen(anchored, 8_000, 2_000)
    assert verdict.compared.processed is not None
    assert verdict.compared.processed.since == anchored.first_seq + 8_000
    assert verify_portfolio(NAME, full=True).identical


# --- bounds --------------------------------------------------------------------------------------


def test_the_four_newest_anchors_and_the_last_of_each_month_are_kept(
    anchored: Portfolio, node: FakeNode, replays: Replays
) -> None:
    for _ in range(6):
        assert node.commit(NAME, 10) == "ok"
        assert verify_portfolio(NAME).identical
    last = anchored.first_seq + 8_059
    assert anchors() == [last, last - 10, last - 20, last - 30]
    # The oldest was the last of a month before: it stays, and those of this month go.
    old = VerificationAnchor.objects.get(seq=last - 30)
    update_row(old, at=datetime.now(UTC) - timedelta(days=62))
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
    anchored: Portfolio, node: FakeNode, replays: Replays
) -> None:
    assert node.commit(NAME, 4_000) == "ok"
    archive_before(anchored, anchored.first_seq + 7_000)
    events, verdict = replays.of()
    assert verdict.identical and verdict.notes == ()
    assert events == seen(anchored, 8_000, 4_000)
    events, verdict = replays.of(full=True)
    assert verdict.identical and events == seen(anchored, 8_000, 4_000)
    at = anchored.first_seq + 7_000
    assert verdict.notes[0].startswith(f"Orders and fills before seq {at} are archived")
    # What is still stored is still looked at.
    Order.objects.filter(portfolio=anchored, seq__gt=anchored.first_seq + 8_000)[1].delete()
    assert verify_portfolio(NAME).compared.difference is not None


def test_the_first_seq_that_a_verification_needs_is_known_for_each_portfolio(
    anchored: Portfolio, node: FakeNode, replays: Replays
) -> None:
    make_running_portfolio("two", node, events=10)
    two = Portfolio.objects.get(name="two")
    reached = anchored.first_seq + 8_000 - 1
    assert verified_to() == {anchored.pk: reached, two.pk: two.first_seq - 1}
    assert replays.of("two")[1].identical
    assert verified_to() == {anchored.pk: reached, two.pk: two.first_seq + 9}


def test_without_an_anchor_archived_rows_are_counted_and_not_reported_as_missing(
    anchored: Portfolio, replays: Replays
) -> None:
    VerificationAnchor.objects.all().delete()
    gone = anchored.first_seq + 4_000
    rows = Order.objects.filter(seq__lt=gone).count()
    rows += Fill.objects.filter(fill_seq__lt=gone).count()
    archive_before(anchored, gone)
    verdict = verify_portfolio(NAME)
    assert verdict.identical, verdict.sentence
    assert verdict.compared.counts.rows_dropped == rows > 10
    assert f"{rows} orders and fills were not compared: they are archived." in verdict.notes
    assert replays.of()[0] == 0


def test_deleted_row_outside_the_archived_ranges_is_found_missing(anchored: Portfolio) -> None:
    VerificationAnchor.objects.all().delete()
    first, lost, *_ = Order.objects.filter(portfolio=anchored).order_by("seq")
    archive_before(anchored, first.seq + 1)
    # A later partition is archived, and the one between them is kept.
    ArchivedRange.objects.create(
        portfolio=anchored, kind="portfolios_order", from_seq=lost.seq + 1, to_seq=lost.seq + 1
    )
    assert verify_portfolio(NAME).identical
    VerificationAnchor.objects.all().delete()
    lost.delete()
    found = difference(verify_portfolio(NAME))
    assert (found.seq, found.found) == (lost.seq, "missing")


def test_archived_order_that_outlived_its_partition_is_not_reported_as_missing(
    anchored: Portfolio, node: FakeNode
) -> None:
    """It is open at an anchor, ends, and is archived."""
    anchor = VerificationAnchor.objects.get()
    ended = Order.objects.filter(portfolio=anchored, status="filled").earliest("seq")
    anchor.open_orders = [*anchor.open_orders, [ended.seq, ended.index]]
    anchor.save()
    ended.delete()
    assert node.commit(NAME, 100) == "ok"
    assert verify_portfolio(NAME).compared.difference is not None
    archive_before(anchored, ended.seq + 1)
    assert verify_portfolio(NAME).identical


# --- asked for -----------------------------------------------------------------------------------


def test_api_and_command_can_ask_for_a_full_verification(
    anchored: Portfolio, operator: ApiClient, capsys: Any
) -> None:
    path = f"portfolios/{NAME}/verification/"
    assert operator.post(path, {"full": True}).status_code == 202
    assert OrmQ.objects.count() == 1
    run_waiting()
    assert operator.get(path).json()["events_replayed"] == seen(anchored, 0, 8_000)
    operator.post(path)
    run_waiting()
    document = operator.get(path).json()
    assert document["events_replayed"] == 0
    assert document["replayed_from_seq"] == anchored.first_seq + 8_000
    assert document["verified_before_at"].endswith("Z")
    assert len(document["events_digest"]) == 16
    call_command("verify_portfolio", NAME)
    assert "0 of the events replayed now" in capsys.readouterr().out
    call_command("verify_portfolio", NAME, "--full")
    assert "replayed now" not in capsys.readouterr().out
    make_portfolio("without-events")
    call_command("verify_portfolio", "--all")
    assert capsys.readouterr().out.endswith(
        "Identical: 1 portfolio with committed events."
        " Without a committed event, and not compared: 1.\n"
    )
