"""Backtests: the range of a feed, the figures, the curve, the drawing, and failures."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from ginkgo_site.env import CHECKOUT
from portfolios.backtest.curve import Curve, CurvePoint
from portfolios.backtest.document import BacktestDocument, Figures, Input, Order, Point, document_of
from portfolios.backtest.feed_range import FeedRange, WrongRange, read_range
from portfolios.backtest.plot import draw
from portfolios.backtest.run import Backtest, BacktestResult, StrategyStopped, run_backtest
from portfolios.backtest.summary import halt_sentence
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.events import decode_events
from portfolios.runtime.messages import Batch
from portfolios.runtime.spec import BrokerSettings, Limits
from portfolios.runtime.state import OpenOrder
from portfolios.runtime.worker import PortfolioWorker
from portfolios.strategies import registry
from portfolios.strategies.base import CancelIntent, OrderIntent
from portfolios.verify.replay_process import ReplayProcessEnded
from tests.support.bar_log import BarLog, BarRow
from tests.support.market_factories import Scripted, buy, sell, spec

DAY_US = 86_400_000_000
JAN_1_2024 = 19_723  #: days after the epoch


def day(number: int, symbol: str, open_e4: int, close_e4: int) -> BarRow:
    """Return a daily bar, `number` days after 2024-01-01."""
    low, high = min(open_e4, close_e4), max(open_e4, close_e4)
    return BarRow(symbol, (JAN_1_2024 + number) * DAY_US, open_e4, high, low, close_e4, 100)


def feed(*bars: BarRow) -> BarLog:
    return BarLog("prices", bars)


#: Closes of 10, 12, 9, 15 on four days, each bar opening at the close before.
FOUR_DAYS = (
    day(0, "A", 100_000, 100_000),
    day(1, "A", 100_000, 120_000),
    day(2, "A", 120_000, 90_000),
    day(3, "A", 90_000, 150_000),
)


@pytest.fixture
def backtest(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a script over bars."""

    def run(
        script: dict[int, Any], bars: tuple[BarRow, ...] = FOUR_DAYS, **spec_changes: Any
    ) -> Any:
        monkeypatch.setitem(registry.BUILT_IN, "scripted", Scripted)
        monkeypatch.setattr(Scripted, "script", script)
        log = feed(*bars)
        made = Backtest(spec(**spec_changes), log, FeedRange(1, log.length))
        return run_backtest(made, PortfolioWorker().answer)

    return run


def test_figures_of_one_purchase_equal_those_computed_by_hand(backtest: Any) -> None:
    # 10 pieces decided at the close of 10 fill at the next open of 10: 900 cash left of 1,000.
    # Equity at the end of each day: 1,000; 900 + 120; 900 + 90; 900 + 150.
    figures = document_of(backtest({1: [buy("A", "10")]})).figures
    assert (figures.equity, figures.profit, figures.return_) == ("1050.0000", "50.0000", 0.05)
    assert (figures.realised, figures.unrealised) == ("0.0000", "50.0000")
    assert figures.max_drawdown_amount == "30.0000"  # 1,020 on day 1, 990 on day 2
    assert figures.max_drawdown == round(30 / 1020, 6)
    assert figures.drawdown_from == "2024-01-02T00:00:00+00:00"
    assert (figures.drawdown_to, figures.turnover) == ("2024-01-03T00:00:00+00:00", "100.0000")
    assert figures.max_exposure == round(150 / 1050, 6)
    assert (figures.orders, figures.fills, figures.refused, figures.open_orders) == (1, 1, 0, 0)
    assert figures.events == 4


def test_average_exposure_covers_every_recorded_point(backtest: Any) -> None:
    result: BacktestResult = backtest({1: [buy("A", "10")]})
    # Days 0 to 3, and once more the end of the last day.
    points = [0, 120 / 1020, 90 / 990, 150 / 1050, 150 / 1050]
    assert result.tally.average_exposure == pytest.approx(sum(points) / 5)


def test_refusals_are_counted_apart_from_orders(backtest: Any) -> None:
    figures = document_of(backtest({1: [buy("A", "101")], 2: [buy("A", "101")]})).figures
    assert (figures.orders, figures.refused, figures.refused_again) == (0, 1, 1)


def test_orders_name_their_fill_or_their_refusal(backtest: Any) -> None:
    document = document_of(backtest({1: [buy("A", "10"), sell("A", "99")], 4: [sell("A", "10")]}))
    filled, refused, still_open = document.orders
    fill = (filled.status, filled.fill_price, filled.filled_at)
    assert fill == ("filled", "10.0000", "2024-01-02T00:00:00+00:00")
    assert refused.status == "refused" and "short" in str(refused.reason)
    assert (still_open.status, still_open.fill_price) == ("open", None)


def test_fees_and_orders_that_end_without_a_fill_are_counted(backtest: Any) -> None:
    far = OrderIntent("A", "buy", Decimal(1), "limit", Decimal("0.5"))
    once = OrderIntent("A", "buy", Decimal(1), "limit", Decimal("0.5"), time_in_force="ioc")
    cancel = CancelIntent(OpenOrder(1, 1, "A", "buy", Decimal(1), Decimal(10)))
    script = {1: [buy("A", "10"), far, once], 2: [cancel, far]}
    broker = BrokerSettings(fee_per_order=Decimal("0.5"), slippage_bps=Decimal(100))
    document = document_of(backtest(script, broker=broker))
    figures = document.figures
    assert (figures.fees, figures.fills, figures.orders) == ("0.5000", 1, 4)
    assert (figures.cancelled, figures.expired, figures.open_orders) == (1, 1, 1)
    # Slippage of 1 %: 10 pieces at 10.1 and a fee of 0.5, worth 150 at the end.
    assert figures.equity == "1048.5000"
    entry, cancelled, expired, _ = document.orders
    assert (entry.fill_price, entry.fee) == ("10.1000", "0.5000")
    assert (cancelled.status, cancelled.limit_price) == ("cancelled", "0.5000")
    end = (expired.status, expired.reason)
    assert end == ("expired", "not filled at the first bar after its decision")


def test_backtest_ends_at_the_event_at_which_a_limit_halts_it(
    backtest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portfolios.backtest.run.FIRST_BATCH", 1)
    monkeypatch.setattr("portfolios.backtest.run.MAX_BATCH", 1)
    limits = Limits(largest_drawdown_pct=Decimal(2))
    result: BacktestResult = backtest({1: [buy("A", "10")]}, limits=limits)
    figures = document_of(result).figures
    assert (figures.events, figures.halted_at_seq) == (3, 3)  # 1,020 on day 1, 990 on day 2
    assert "2.9412 % below its peak" in str(figures.halted)
    assert figures.equity == "990.0000"
    assert halt_sentence(document_of(result)).startswith("A limit halted it after seq 3: ")


def test_backtest_without_events_of_its_symbols_has_no_curve(backtest: Any) -> None:
    document = document_of(backtest({}, symbols=["B"]))
    assert (document.figures.events, document.figures.first_at, document.equity) == (0, None, [])
    assert document.figures.equity == "1000.0000"


def test_backtest_equals_the_bare_engine_however_its_batches_are_cut(
    backtest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portfolios.backtest.run.FIRST_BATCH", 1)
    monkeypatch.setattr("portfolios.backtest.run.MAX_BATCH", 3)
    bars = tuple(day(n // 2, "AB"[n % 2], 10_000 + n * 7, 10_000 + n * 11) for n in range(40))
    script = {n: [buy("A", "1"), buy("B", "2")] if n % 3 else [sell("A", "1")] for n in range(41)}
    result: BacktestResult = backtest(script, bars)
    events = feed(*bars).read(1, 40)
    at_their_times = [type(e)(e.seq, e.symbol, e.time, e.time, *_prices(e)) for e in events]
    engine = PortfolioEngine.fresh(spec())
    whole = engine.run(at_their_times, 0, 40)
    assert [line.row for line in result.tally.orders] == whole.orders
    assert (result.tally.fills, result.state) == (len(whole.fills), engine.state)


def _prices(event: Any) -> tuple[int, ...]:
    return (event.open_e4, event.high_e4, event.low_e4, event.close_e4, event.volume)


def test_failure_names_seq_symbol_and_day(backtest: Any) -> None:
    with pytest.raises(StrategyStopped) as stopped:
        backtest({3: KeyError("VIX")})
    assert stopped.value.message == (
        "scripted failed: KeyError: VIX in scripted at seq 3 (A, 2024-01-03)."
    )
    assert stopped.value.seq == 3
    assert "KeyError" in stopped.value.trace


def test_process_that_ends_stops_the_backtest_with_a_sentence() -> None:
    def ask(request: Any) -> Any:
        raise ReplayProcessEnded("its process was ended by SIGKILL")

    log = feed(*FOUR_DAYS)
    with pytest.raises(StrategyStopped, match="stopped at seq 1: its process was ended by"):
        run_backtest(Backtest(spec(), log, FeedRange(1, 4)), ask)


@pytest.mark.parametrize(
    ("first", "last", "wanted"),
    [
        (None, None, (1, 4)),
        ("2", "3", (2, 3)),
        ("2024-01-02", "2024-01-03", (2, 3)),  # a date as an end is the whole day
        ("2024-01-01T00:00:01", None, (2, 4)),
        ("2024-01-02T02:00:00+02:00", "2024-01-02T02:00:00+02:00", (2, 2)),
        ("2023-01-01", "2030-01-01", (1, 4)),
        ("2024-01-01T00:00:01", "2024-01-03T11:00", (2, 3)),
        ("3", "6", (3, 6)),  # a replay goes on with its second lap
    ],
)
def test_range_is_given_by_seq_or_time(first: str | None, last: str | None, wanted: Any) -> None:
    assert read_range(feed(*FOUR_DAYS), first, last) == FeedRange(*wanted)


def test_range_of_a_feed_that_dropped_its_first_records_begins_at_the_first_kept() -> None:
    log = feed(*FOUR_DAYS)
    log.first_seq = 3  # type: ignore[attr-defined]
    assert read_range(log, None, None) == FeedRange(3, 4)
    assert read_range(log, "2024-01-01", "2024-01-03") == FeedRange(3, 3)
    assert read_range(log, "2024-01-04", None) == FeedRange(4, 4)
    with pytest.raises(
        WrongRange, match=r"--from is 2: that event is no longer kept\. prices has seq 3"
    ):
        read_range(log, "2", None)
    with pytest.raises(WrongRange, match=r"--to 2024-01-02 is before the first event"):
        read_range(log, None, "2024-01-02")


def test_range_that_ends_at_a_date_includes_the_whole_day() -> None:
    noon = BarRow("A", (JAN_1_2024 + 1) * DAY_US + DAY_US // 2, 1, 1, 1, 1, 1)
    log = feed(day(0, "A", 1, 1), noon, day(2, "A", 1, 1))
    assert read_range(log, "2024-01-02", "2024-01-02") == FeedRange(2, 2)


#: Two symbols of four days, one whole file after the other: seqs 1 to 4 and 5 to 8.
TWO_FILES = (*FOUR_DAYS, *(row._replace(symbol="B") for row in FOUR_DAYS))


@pytest.mark.parametrize("read_whole", [200_000, 0])
@pytest.mark.parametrize(
    ("first", "last", "wanted"),
    [
        ("2024-01-02", "2024-01-03", [2, 3, 6, 7]),
        ("2024-01-04", None, [4, 8]),
        (None, "2024-01-01", [1, 5]),
        ("3", "2024-01-02", [5, 6]),
        ("2024-01-03", "5", [3, 4]),
        (None, "5", [1, 2, 3, 4, 5]),
    ],
)
def test_range_given_by_times_has_all_its_events_although_times_of_the_feed_go_back(
    monkeypatch: pytest.MonkeyPatch,
    first: str | None,
    last: str | None,
    wanted: list[int],
    read_whole: int,
) -> None:
    monkeypatch.setattr("portfolios.backtest.feed_range.READ_WHOLE", read_whole)
    monkeypatch.setattr("portfolios.backtest.feed_range.SEGMENT_SEQS", 3)
    monkeypatch.setattr("portfolios.backtest.feed_range.PAGE", 3)
    log = feed(*TWO_FILES)
    log.first_seq = 1  # type: ignore[attr-defined]
    seen: list[int] = []

    def ask(request: Any) -> Any:
        if isinstance(request, Batch):
            seen.extend(event.seq for event in decode_events(request.events))
        return worker.answer(request)

    monkeypatch.setitem(registry.BUILT_IN, "scripted", Scripted)
    monkeypatch.setattr(Scripted, "script", {})
    worker = PortfolioWorker()
    span = read_range(log, first, last)
    result = run_backtest(Backtest(spec(first_seq=span.first), log, span), ask)
    assert seen == wanted
    assert result.tally.events == len(wanted)


@pytest.mark.parametrize(
    ("first", "last", "sentence"),
    [
        ("0", None, "--from is 0: the events of a feed are numbered from 1."),
        ("soon", None, "--from is 'soon': give a seq such as 1200, a date such as 2010-01-31"),
        ("2024-02-30", None, "--from is '2024-02-30': give a seq"),
        ("3", "2", "The range is empty: it begins at seq 3 and ends at seq 2."),
        ("2025-01-01", None, "--from 2025-01-01 is after the last event. prices has seq 1 to 4,"),
        (None, "2023-12-31", "--to 2023-12-31 is before the first event. prices has seq 1 to 4,"),
    ],
)
def test_wrong_range_is_refused(first: str | None, last: str | None, sentence: str) -> None:
    with pytest.raises(WrongRange) as wrong:
        read_range(feed(*FOUR_DAYS), first, last)
    assert str(wrong.value).startswith(sentence)


def test_long_curve_keeps_its_extremes_and_its_end() -> None:
    curve = Curve(limit=8)
    values = [100.0] * 1000
    values[501], values[777] = 250.0, 3.0
    for seq, value in enumerate(values, start=1):
        curve.add(CurvePoint(seq, seq, value, value, value, 0.5 if seq == 778 else 0.0, 0.0))
    points = curve.points
    assert len(points) <= 8
    assert max(point.high for point in points) == 250.0
    assert min(point.low for point in points) == 3.0
    assert max(point.drawdown for point in points) == 0.5
    assert points[-1].seq == 1000
    assert [point.seq for point in points] == sorted(point.seq for point in points)


def test_drawing_escapes_symbols_and_joins_marks_of_neighbouring_orders(backtest: Any) -> None:
    bars = (day(0, "<b>", 10_000, 10_000), day(1, "<b>", 10_000, 20_000))
    result: BacktestResult = backtest({1: [buy("<b>", "1"), buy("<b>", "2")]}, bars)
    drawing = draw(result.tally.curve.points, result.tally.orders)
    assert "<b>" not in drawing
    assert drawing.count('class="buy"') == 1
    assert "buy 1 &lt;b&gt; at 1.0000, 2024-01-02\nbuy 2 &lt;b&gt;" in drawing


def test_drawing_of_a_flat_curve_has_finite_coordinates(backtest: Any) -> None:
    result: BacktestResult = backtest({}, starting_cash=Decimal("0.0100"))
    drawing = draw(result.tally.curve.points, [])
    assert "nan" not in drawing and "inf" not in drawing


def test_documentation_names_every_field_of_the_document() -> None:
    page = (CHECKOUT / "docs" / "strategies.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(\w+)`", page))
    fields = [
        field.encode_name
        for part in (BacktestDocument, Input, Figures, Point, Order)
        for field in msgspec.structs.fields(part)
    ]
    assert set(fields) <= documented
