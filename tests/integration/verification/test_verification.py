"""Verifications: verdicts on sound portfolios, and what cannot be verified."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from ginkgo_site.env import read_environment
from portfolios.feeds import open_feed
from portfolios.models import (
    Checkpoint,
    EquityPoint,
    FeedRecord,
    FeedRow,
    FeedSegment,
    Fill,
    MetricPoint,
    Order,
    Portfolio,
    Revision,
)
from portfolios.runtime.messages import Batch, Load, Reply
from portfolios.runtime.state import decode_state
from portfolios.runtime.worker import PortfolioWorker
from portfolios.strategies import registry
from portfolios.verify.compare_state import without_event_count, without_figures
from portfolios.verify.replay_process import ReplayProcessEnded, replay_process, replay_processes
from portfolios.verify.stored_rows import StoredRowsReader
from portfolios.verify.verify import verify
from scheduling.errors import Refused, SnapshotUnavailable
from scheduling.models import Tenure
from scheduling.operations.feeds import NewInstrument, append_rows, create_feed
from scheduling.verification import evidence
from scheduling.verification import verify as verifying
from scheduling.verification.evidence import gather_evidence
from scheduling.verification.replay import replay_portfolio
from scheduling.verification.verify import verify_portfolio
from tests.support.factories import (
    FakeNode,
    begin_reload,
    make_node,
    make_portfolio,
    make_running_portfolio,
    make_trader,
    owner,
)
from tests.support.strategies.every_order import EveryOrder
from tests.support.verified_trader import NAME, SYMBOLS, difference, make_crossing, move, reload

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("quick")]

# --- what was done right ------------------------------------------------------------------------


def test_verification_of_a_moved_suppressed_reloaded_and_taken_over_portfolio_is_identical(
    moved: Portfolio,
) -> None:
    verdict = verify_portfolio(NAME, full=True)
    assert verdict.identical and verdict.notes == ()
    counts = verdict.compared.counts
    assert counts.orders == Order.objects.filter(portfolio=moved).count() > 50
    assert counts.fills == Fill.objects.filter(portfolio=moved).count() > 30
    assert counts.equity == EquityPoint.objects.filter(portfolio=moved).count() > 10
    orders = Order.objects.filter(portfolio=moved)
    assert {"filled", "suppressed"} <= set(orders.values_list("status", flat=True))
    assert (verdict.handoffs, verdict.epochs) == (3, 4)  # placed, moved, reloaded; then registered
    first = moved.first_seq
    assert verdict.sentence.endswith(f"3 handoffs, seq {first:,}–{first + 13_999:,}")


def test_verification_in_a_separate_process_has_the_same_result(
    moved: Portfolio, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = verify_portfolio(NAME, full=True)
    monkeypatch.setattr(verifying, "replay_processes", replay_processes)
    there = verify_portfolio(NAME, full=True)
    assert there.identical
    assert there.compared == here.compared


def test_the_replay_has_the_limits_that_the_nodes_of_this_environment_have(
    moved: Portfolio, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    given: list[dict[str, Any]] = []

    def noted(code_of: Any, **limits: Any) -> Any:
        given.append(limits)
        return nullcontext(PortfolioWorker().answer)

    monkeypatch.setattr(verifying, "replay_processes", noted)
    environment = {"GINKGO_CHILD_MEMORY_MB": "4096", "GINKGO_STRATEGY_GUARD": "no"}
    for settings.GINKGO in (read_environment({}), read_environment(environment)):
        verify_portfolio(NAME)
    sandboxed = {"memory_mb": 1024, "sandboxed": True}
    assert given == [sandboxed, {"memory_mb": 4096, "sandboxed": False}]


def test_a_revision_that_never_committed_does_not_change_the_reference_state() -> None:
    # The state went from r1 to r1: what r2 would have made of it must not come in between.
    one = make_node("node-1")
    make_crossing(one, 4_000)
    handoff = begin_reload(NAME, {"strategy": "mean_reversion", "config": {}})
    assert one.ready(handoff) == "draining"
    assert owner(NAME, one).release(handoff).answer == "handed_over"
    assert one.fails(handoff, "activate", strategy=True) == "rolled_back"
    assert one.commit(NAME, 4_000) == "ok"
    assert list(Tenure.objects.order_by("epoch").values_list("revision", flat=True)) == [1, 2, 1]
    assert verify_portfolio(NAME).identical


def test_commits_made_during_a_verification_are_not_compared(
    world: tuple[Portfolio, FakeNode], waiting: Order
) -> None:
    trader, daemon = world
    begun = gather_evidence(NAME)
    last = begun.recorded.to_seq
    daemon.commit(NAME, 3_000)
    assert waiting.fills.get().fill_seq > last
    compared = verify(begun.recorded, StoredRowsReader(trader.pk, last), PortfolioWorker().answer)
    assert (compared.difference, compared.to_seq) == (None, last)


def test_a_verification_ends_at_the_requested_seq(trader: Portfolio) -> None:
    verdict = verify_portfolio(NAME, trader.first_seq + 9_999)
    assert verdict.identical
    assert verdict.compared.to_seq == trader.first_seq + 9_999
    assert verify_portfolio(NAME, trader.first_seq + 4_500).handoffs == 2  # the reload came later
    assert verdict.compared.state_digest is None
    assert "The state was not compared" in verdict.notes[0]


@pytest.mark.parametrize(("rows", "at"), [(Order, "seq"), (Fill, "fill_seq"), (EquityPoint, "seq")])
def test_every_row_is_compared_once_wherever_a_verification_window_ends(
    moved: Portfolio, monkeypatch: pytest.MonkeyPatch, rows: Any, at: str
) -> None:
    whole = verify_portfolio(NAME, full=True).compared
    seqs = list(rows.objects.filter(portfolio=moved).order_by(at).values_list(at, flat=True))
    window = seqs[len(seqs) // 2] - moved.first_seq + 1  # the first one ends at a row
    monkeypatch.setattr("portfolios.verify.verify.WINDOW", window)
    assert verify_portfolio(NAME, full=True).compared == whole
    last = rows.objects.filter(portfolio=moved).latest(at)
    last.delete()
    found = difference(verify_portfolio(NAME, full=True))
    assert (found.seq, found.found) == (getattr(last, at), "missing")


def test_rows_of_another_portfolio_are_not_compared(world: tuple[Portfolio, FakeNode]) -> None:
    given: dict[str, Any] = {"strategy": "sma_cross", "config": {"fast": 1, "slow": 2}}
    make_running_portfolio("other", world[1], events=5_000, symbols=["KO"], **given)
    world[1].commit("other", 5_000, suppress=True)
    assert Order.objects.filter(portfolio__name="other").exists()
    assert [verify_portfolio(name).identical for name in (NAME, "other")] == [True, True]


def test_verification_follows_a_change_of_the_feeds_rate(world: tuple[Portfolio, FakeNode]) -> None:
    trader, daemon = world
    trader.run.refresh_from_db()
    (first,) = FeedSegment.objects.all()
    turns_at = trader.run.last_seq + 500
    at = first.from_time + timedelta(seconds=(turns_at - first.from_seq) / float(first.rate))
    its = {"feed": first.feed, "rate": first.rate / 3}
    FeedSegment.objects.create(from_seq=turns_at, from_time=at, **its)
    before = Order.objects.filter(portfolio=trader).count()
    assert daemon.commit(NAME, 3_000) == "ok"
    assert Order.objects.filter(portfolio=trader).count() > before + 5
    assert verify_portfolio(NAME).identical


def test_verification_reports_progress_after_each_replayed_piece(moved: Portfolio) -> None:
    told: list[tuple[int, int, int]] = []
    verify_portfolio(NAME, full=True, progress=lambda *seqs: told.append(seqs))
    first, last = moved.first_seq, moved.first_seq + 13_999
    assert {(a, b) for a, _, b in told} == {(first, last)}
    reached = [at for _, at, _ in told]
    assert reached == sorted(reached) and reached[-1] == last and len(reached) >= 5


# --- states of a version that did not count events ----------------------------------------------


def forget_count(portfolio: Portfolio) -> None:
    """Have the stored state been made by a version that did not count events."""
    kept = Checkpoint.objects.filter(portfolio=portfolio)
    kept.update(state=without_event_count(bytes(kept.get().state)))


def test_verdict_reports_the_recorded_event_count(moved: Portfolio) -> None:
    recorded = decode_state(bytes(Checkpoint.objects.get(portfolio=moved).state))
    assert recorded.account.processed is not None
    events = recorded.account.processed.events
    verdict = verify_portfolio(NAME, full=True)
    assert verdict.sentence.startswith(f"identical over {events} events, ")
    document = verdict.document()
    assert document["events"] == document["events_replayed"] == events
    assert document["events_counted_from"] == moved.first_seq
    assert document["events_digest"] == recorded.account.processed.digest_text


def test_verdict_notes_that_the_state_has_no_event_count(trader: Portfolio) -> None:
    forget_count(trader)
    verdict = verify_portfolio(NAME)
    assert verdict.identical
    assert " replayed events, " in verdict.sentence
    assert verdict.notes[0].startswith("The state has no event count")
    assert verdict.document()["events_digest"] is None


@pytest.mark.parametrize("world", ["from the first event"], indirect=True)
@pytest.mark.parametrize("then", ["commit", "move", "adapt"])
def test_event_count_that_begins_after_the_first_event_is_compared_from_its_beginning(
    world: tuple[Portfolio, FakeNode], then: str
) -> None:
    trader, daemon = world
    forget_count(trader)
    if then == "move":
        other = make_node("node-1")
        move(daemon, other)
        daemon = other
    elif then == "adapt":
        reload(daemon, fast=2, slow=4)
        assert daemon.commit(NAME) == "ok"  # an empty commit that has adapted the state
    before = trader.first_seq + 14_000
    assert daemon.commit(NAME, 2_000) == "ok"
    seen = open_feed().read_for(frozenset(SYMBOLS), before, before + 1_999)
    verdict = verify_portfolio(NAME)
    assert verdict.identical, verdict.sentence
    assert verdict.compared.processed is not None
    assert verdict.compared.processed.since == before
    assert verdict.sentence.startswith(f"identical over {len(seen)} events, ")
    assert verdict.notes[0].startswith(f"Events are counted from seq {before} on")


# --- what cannot be said ------------------------------------------------------------------------


def refused() -> str:
    with pytest.raises(Refused) as caught:
        verify_portfolio(NAME)
    assert caught.value.code == "cannot_verify"
    return caught.value.message


def test_feed_with_another_hash_cannot_be_verified(moved: Portfolio) -> None:
    FeedRow.objects.update(sha256="0" * 64)
    assert "has the hash" in refused() and "install that data again" in refused()


def test_portfolio_whose_feed_lost_a_record_cannot_be_verified_or_replayed() -> None:
    create_feed("live", [NewInstrument("KO")], actor="test")
    hand = make_trader(NAME, make_node("node-1"), events=0, feed="live")
    trades = {"symbol": "KO", "price": 60, "quantity": 1}
    append_rows("live", [{**trades, "time": f"2026-11-02T10:00:0{n}Z"} for n in range(3)])
    assert hand.commit(3) == "ok"
    FeedRecord.objects.filter(seq=2).delete()
    lost = "Feed live has no record of seq 2, which was recorded: restore its records from a backup"
    assert refused() == f"trader cannot be verified: {lost}."
    with pytest.raises(Refused, match=f"^trader cannot be replayed: {lost}"):
        replay_portfolio(NAME)


def test_revision_of_a_strategy_version_not_installed_cannot_be_verified(moved: Portfolio) -> None:
    Revision.objects.filter(portfolio=moved, number=1).update(strategy_version=9)
    assert refused() == (
        "trader cannot be verified: its revision 1 ran version 9 of sma_cross, and version 1 is"
        " installed here; verify it on a machine that has version 9."
    )
    Revision.objects.filter(portfolio=moved, number=1).update(strategy="gone")
    assert "its revision 1 ran gone, which is not installed here" in refused()


def test_portfolio_whose_revision_was_deleted_cannot_be_verified(moved: Portfolio) -> None:
    Revision.objects.filter(portfolio=moved, number=1).delete()
    told = "epoch 1 ran r1, and that revision no longer exists."
    assert refused() == f"trader cannot be verified: {told}"


@pytest.mark.parametrize("off", [-1, 14_000])
def test_uncommitted_events_cannot_be_verified(moved: Portfolio, off: int) -> None:
    with pytest.raises(Refused, match=r"it has committed seq .*; choose one of these"):
        verify_portfolio(NAME, moved.first_seq + off)


def test_a_database_that_does_not_answer_gives_no_verdict(
    moved: Portfolio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "TENURES", "SELECT nonsense")
    with pytest.raises(SnapshotUnavailable, match="could not be read"):
        verify_portfolio(NAME)


@pytest.mark.django_db(transaction=True)
def test_evidence_is_read_in_one_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def look(which: str | int, cursor: Any) -> None:
        names = ("transaction_isolation", "transaction_read_only")
        how = ", ".join(f"current_setting('{name}') AS {name}" for name in names)
        seen.append(tuple(cursor.execute(f"SELECT {how}").fetchone()))

    monkeypatch.setattr(evidence, "EvidenceRows", look)
    evidence.read_evidence_rows("any")
    assert seen == [("repeatable read", "on")]


def test_a_portfolio_that_never_ran_cannot_be_verified() -> None:
    make_portfolio(NAME)
    assert refused() == ("trader cannot be verified: it has committed no event yet; it is pending.")


def test_equity_past_its_retention_is_reported_and_not_taken_for_missing(
    moved: Portfolio, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = list(EquityPoint.objects.filter(portfolio=moved))
    # As if a month had passed.
    monkeypatch.setattr(evidence, "min_equity_age", lambda: timedelta(days=-40))
    points[0].delete()
    verdict = verify_portfolio(NAME, full=True)
    assert verdict.identical
    counts = verdict.compared.counts
    assert (counts.equity, counts.equity_dropped) == (len(points) - 1, 1)
    assert "1 equity points were not compared: they are older than 30 days" in verdict.notes[0]


# --- what a strategy may do to it ---------------------------------------------------------------


def test_replay_process_of_a_strategy_that_loops_is_killed_at_its_time_limit(
    monkeypatch: pytest.MonkeyPatch, moved: Portfolio
) -> None:
    monkeypatch.setenv("GINKGO_STRATEGIES", "tests.support.strategies.never_ready")
    spec = gather_evidence(NAME).recorded.tenure_segments[0].spec
    looping = Load(replace(spec, strategy="looping", parameters={}), None, 0)
    killed = pytest.raises(ReplayProcessEnded, match="within 2 s and was killed")
    with replay_process(limit_s=2.0) as ask, killed:
        ask(looping)


def test_a_replay_that_fails_where_the_fleet_committed_is_a_difference(
    moved: Portfolio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(request: Load | Batch) -> Reply:
        if isinstance(request, Batch) and request.from_seq > moved.first_seq + 5_000:
            raise ReplayProcessEnded("it did not answer within 60 s and was killed")
        return here(request)

    here = PortfolioWorker().answer
    monkeypatch.setattr(verifying, "replay_processes", lambda *_, **__: nullcontext(ask))
    found = difference(verify_portfolio(NAME, full=True))
    assert (found.kind, found.found) == ("replay", "a commit")
    assert found.wanted == "a failure: it did not answer within 60 s and was killed"
    assert "epoch 2 on node-2" in found.where


# --- orders of every kind ------------------------------------------------------------------------

COSTS = {"fee_per_order": "1", "fee_bps": "2.5", "slippage_bps": "5", "slippage_ticks": 1}


def test_orders_of_every_kind_are_compared_with_their_fills_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry.BUILT_IN, EveryOrder.name, EveryOrder)
    one, two = make_node("node-1"), make_node("node-2")
    limits = {"broker": COSTS, "orders_per_minute": 3, "largest_notional": "5000"}
    given: dict[str, Any] = {"strategy": EveryOrder.name, "symbols": ["KO", "GE"]}
    make_running_portfolio(NAME, one, events=2_000, limits=limits, **given)
    move(one, two)
    assert two.commit(NAME, 1_500, suppress=True) == "ok"
    assert verify_portfolio(NAME).identical
    assert two.commit(NAME, 6_000) == "ok"
    verdict = verify_portfolio(NAME)
    assert verdict.identical, verdict.sentence
    orders = Order.objects.filter(portfolio__name=NAME)
    statuses = set(orders.values_list("status", flat=True))
    assert {"filled", "cancelled", "expired", "refused", "suppressed"} <= statuses
    assert {"market", "limit", "stop"} == set(orders.values_list("kind", flat=True))
    assert orders.filter(tag="timer").exists()
    points = MetricPoint.objects.filter(portfolio__name=NAME)
    assert {"events", "of_ge", "of_ko"} == set(points.values_list("name", flat=True))

    touched: list[tuple[Order, str, Any]] = []
    limit = orders.filter(kind="limit", time_in_force="gtc").exclude(status="refused").latest("seq")
    touched += [(limit, "limit_price", Decimal(1)), (limit, "tag", "other")]
    other = {"gtc": "ioc", "ioc": "gtc"}[limit.time_in_force]
    touched += [(limit, "time_in_force", other), (limit, "kind", "market")]
    expired = orders.filter(status="expired").latest("seq")
    touched += [(expired, "ended_seq", expired.seq), (expired, "reason", "late")]
    touched += [(orders.filter(status="cancelled").latest("seq"), "status", "filled")]
    for order, field, value in touched:
        orders.filter(pk=order.pk).update(**{field: value})
        assert difference(verify_portfolio(NAME, full=True)).field == field
        orders.filter(pk=order.pk).update(**{field: getattr(order, field)})
    fill = Fill.objects.filter(portfolio__name=NAME).latest("fill_seq")
    assert fill.fee > 1  # the settings of the revision reach the engine
    Fill.objects.filter(pk=fill.pk).update(fee=fill.fee + 1)
    assert difference(verify_portfolio(NAME, full=True)).field == "fee"


def test_account_figures_missing_in_an_older_state_are_compared_from_the_upgrade_on(
    world: tuple[Portfolio, FakeNode],
) -> None:
    trader, daemon = world
    row = Checkpoint.objects.get(portfolio=trader)
    Checkpoint.objects.filter(pk=row.pk).update(state=without_figures(bytes(row.state)))
    assert verify_portfolio(NAME, full=True).identical  # as the older version left it
    assert daemon.commit(NAME, 3_000) == "ok"
    figures = decode_state(bytes(Checkpoint.objects.get(portfolio=trader).state)).account.figures
    assert figures is not None and figures.since == row.seq + 1
    assert verify_portfolio(NAME, full=True).identical
    assert verify_portfolio(NAME).identical
