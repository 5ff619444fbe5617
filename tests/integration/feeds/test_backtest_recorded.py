"""Backtests over imported feeds: times of the records, prices with five decimals, lost records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError

from portfolios.models import FeedRecord, FeedWriter
from scheduling.errors import Refused
from scheduling.operations.backtests import NewBacktest, run_new_backtest
from scheduling.operations.dry_runs import dry_run
from tests.support.commands import said, told

pytestmark = pytest.mark.django_db

HOURS = "\n".join(
    f"2024-01-0{1 + n // 24} {n % 24:02d}:00,1.1000{n % 10},1.20001,1.00009,1.1000{(n + 1) % 10}"
    for n in range(40)
)


@pytest.fixture
def fx(tmp_path: Path) -> str:
    file = tmp_path / "eurusd.csv"
    file.write_text(f"time,open,high,low,close\n{HOURS}\n")
    said("feed", "import", "fx", str(file), "--symbol", "EURUSD", "--time-zone", "UTC")
    return "fx"


def test_backtest_of_an_imported_feed_runs_by_the_times_of_its_records(fx: str) -> None:
    config = ("--config", "fast=2", "slow=3", "quantity=1000", "--symbols", "EURUSD")
    span = ("--from", "2024-01-01T05:00", "--to", "2024-01-01T20:00")
    document = told("backtest", "sma_cross", *config, "--feed", fx, *span)
    figures, orders = document["figures"], document["orders"]
    assert (document["input"]["from_seq"], document["input"]["to_seq"]) == (6, 21)
    assert (figures["events"], figures["first_at"]) == (16, "2024-01-01T05:00:00+00:00")
    assert orders and all(len(order["price"]) == len("1.10001") for order in orders)
    assert len(document["equity"]) == 17  # one point an hour, and the end


def test_range_beyond_an_imported_feed_is_refused_with_a_sentence(fx: str) -> None:
    given = ("sma_cross", "--symbols", "EURUSD", "--feed", fx)
    after = r"--from is 41, after the end of fx\. fx has seq 1 to 40"
    with pytest.raises(CommandError, match=after):
        said("backtest", *given, "--from", "41")
    with pytest.raises(CommandError, match="--from 2024-03-01 is after the last event"):
        said("backtest", *given, "--from", "2024-03-01")


def test_feed_without_events_is_refused_with_a_sentence() -> None:
    said("feed", "create", "empty", "--instrument", "EURUSD:tick=0.00001")
    given = ("sma_cross", "--symbols", "EURUSD", "--feed", "empty")
    for more in ((), ("--from", "2024-01-01"), ("--to", "2024-01-01"), ("--from", "1")):
        with pytest.raises(CommandError, match=r"empty has no events yet\."):
            said("backtest", *given, *more)


def test_backtest_begins_at_the_first_record_that_its_feed_keeps(fx: str) -> None:
    FeedRecord.objects.filter(seq__lte=10).delete()
    FeedWriter.objects.update(first_seq=11)
    given = ("sma_cross", "--symbols", "EURUSD", "--feed", fx)
    span = told("backtest", *given, "--from", "2024-01-01", "--to", "2024-01-01T20:00")["input"]
    assert (span["from_seq"], span["to_seq"]) == (11, 21)
    with pytest.raises(CommandError, match=r"5: that event is no longer kept\. fx has seq 11"):
        said("backtest", *given, "--from", "5")


def test_backtest_over_a_stream_that_cannot_be_read_says_why(fx: str) -> None:
    FeedWriter.objects.update(in_stream=True)
    given = ("sma_cross", "--symbols", "EURUSD", "--feed", fx)
    for more in ((), ("--from", "2024-01-01")):
        with pytest.raises(CommandError, match=r"^A feed in NATS .*commands alike\.$"):
            said("backtest", *given, *more)


@pytest.mark.parametrize("run", [run_new_backtest, dry_run])
def test_backtest_and_dry_run_over_a_feed_that_lost_a_record_say_what_helps(
    fx: str, run: Callable[[NewBacktest], object]
) -> None:
    FeedRecord.objects.filter(seq=9).delete()
    with pytest.raises(Refused) as refused:
        run(NewBacktest("sma_cross", symbols=["EURUSD"], feed=fx))
    assert refused.value.code == "feed_differs"
    assert refused.value.message == (
        "Feed fx has no record of seq 9, which was recorded: restore its records from a backup."
    )
