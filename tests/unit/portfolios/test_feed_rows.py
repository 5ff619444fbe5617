"""Invalid rows are refused by their number and with a code."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from portfolios.feeds.rows import InstrumentFacts, read_rows

INSTRUMENTS = {"A": InstrumentFacts("A", 4, Decimal("0.0001"), Decimal("0.01"), last_us=10**15)}
AT = "2026-01-01T12:00:00Z"


def bar(**other: Any) -> dict[str, Any]:
    prices = dict.fromkeys(("open", "high", "low", "close"), "1.5")
    return {"symbol": "A", "time": AT, **prices, "volume": 1, **other}


def gap(**other: Any) -> dict[str, Any]:
    return {"kind": "gap", "symbol": "A", "time": AT, "from": AT, "to": AT, **other}


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"kind": "gap", "symbol": "A", "time": AT, "from": AT}, "required"),
        (gap(symbol=["A"]), "unknown_symbol"),
        (gap(**{"from": "2026-01-02T00:00:00Z"}), "out_of_range"),
        ({"kind": ["bar"], "time": AT}, "unknown_kind"),
        ({"kind": {}, "time": AT}, "unknown_kind"),
        (bar(open="500000000000000"), "out_of_range"),
        (bar(volume="1e999999"), "out_of_range"),
        (bar(volume="1e400000000000000000"), "out_of_range"),
        (bar(volume="1e20"), "out_of_range"),
        (bar(volume=-1), "out_of_range"),
        (bar(time="0001-01-01T00:00:00+23:59"), "out_of_range"),
        (bar(time="9999-12-31T23:59:59-23:59"), "out_of_range"),
    ],
)
def test_invalid_row_is_refused_with_its_code(row: dict[str, Any], code: str) -> None:
    events, wrong = read_rows([row], INSTRUMENTS)
    assert (events, [(one.row, one.code) for one in wrong]) == ([], [(1, code)])


def test_error_about_a_row_does_not_repeat_a_long_value() -> None:
    _, wrong = read_rows([{"kind": "x" * 100_000, "time": AT}], INSTRUMENTS)
    assert len(wrong[0].message) < 200
    _, wrong = read_rows([bar(high="9" * 100_000)], INSTRUMENTS)
    assert len(wrong[0].message) < 200
    assert wrong[0].message.endswith("; it must be below 10^18.")


def test_bar_older_than_the_bar_before_a_gap_is_refused() -> None:
    rows = [
        bar(),
        gap(time="2026-01-01T10:00:00Z", to="2026-01-01T13:00:00Z"),
        bar(time="2026-01-01T11:00:00Z"),
    ]
    events, wrong = read_rows(rows, INSTRUMENTS)
    assert (len(events), [(one.row, one.code) for one in wrong]) == (2, [(3, "time_goes_back")])


def test_quotes_of_one_minute_are_kept_in_their_order() -> None:
    rows = [{"symbol": "A", "time": AT, "bid": bid, "ask": "2"} for bid in ("1.5", "1.4", "1.6")]
    events, wrong = read_rows(rows, INSTRUMENTS)
    assert ([event.low_units for event in events], wrong) == ([15_000, 14_000, 16_000], [])
