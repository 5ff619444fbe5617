"""Messages of live sources become rows."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from portfolios.feeds.log import replaced_by
from portfolios.feeds.messages import MessageLayout, NotUnderstood, read_message

TRADE = {"stream": "eurusd", "data": {"e": "trade", "s": "EURUSD", "p": "1.07083", "q": 3,
                                      "T": 1793613600123, "t": 17}}  # fmt: skip
LAYOUT = MessageLayout(
    fields={"symbol": "s", "price": "p", "quantity": "q", "time": "T"},
    rows="data", only={"data.e": "trade"}, time_unit="ms", number="t",
)  # fmt: skip


def read(layout: MessageLayout, message: Any) -> list[Any]:
    return read_message(layout, json.dumps(message), 1_793_613_600_000_001)


def test_fields_of_a_message_are_found_by_their_paths() -> None:
    [(row, number)] = read(LAYOUT, TRADE)
    assert number == 17
    assert row == {
        "symbol": "EURUSD", "price": "1.07083", "quantity": 3,
        "time": "2026-11-02T10:00:00.123000Z",
    }  # fmt: skip


def test_messages_other_than_rows_are_ignored() -> None:
    assert read(LAYOUT, {"result": None, "id": 1}) == []
    assert read(LAYOUT, {"data": TRADE["data"] | {"e": "depth"}}) == []  # type: ignore[operator]
    assert read(MessageLayout(), {"type": "subscribed"}) == []
    assert read(MessageLayout(), "hello") == []


def test_rows_with_the_field_names_of_ginkgo_need_no_layout_and_keep_decimal_places() -> None:
    message = b'[{"symbol": "KO", "time": "2026-11-02T10:00Z", "bid": 60.10, "ask": 60.20, "n": 4}]'
    [(row, number)] = read_message(MessageLayout(number="n"), message, 0)
    assert (str(row["bid"]), row["ask"], number) == ("60.10", Decimal("60.2"), 4)
    assert "n" not in row


def test_rows_without_a_time_get_that_of_their_arrival() -> None:
    layout = MessageLayout(arrival_times=True, symbol="KO")
    [(row, _)] = read(layout, {"price": 60, "quantity": 1})
    assert (row["time"], row["symbol"]) == ("2026-11-02T10:00:00.000001Z", "KO")


@pytest.mark.parametrize("number", [None, "x", -1, True, 1.5, {}])
def test_a_row_with_a_missing_or_invalid_number_is_refused(number: Any) -> None:
    with pytest.raises(NotUnderstood, match="at 't', not a whole number"):
        read(LAYOUT, {"data": TRADE["data"] | {"t": number}})  # type: ignore[operator]


def test_a_message_that_is_not_json_or_has_no_time_is_refused() -> None:
    with pytest.raises(NotUnderstood, match="it is not JSON"):
        read_message(LAYOUT, b"\xff", 0)
    [(row, _)] = read(LAYOUT, {"data": TRADE["data"] | {"T": 1e30}})  # type: ignore[operator]
    assert row["time"] == "1E+30"  # which `read_rows` refuses


def test_refusal_of_a_replaced_writer_names_a_recorder_to_end_only_if_there_is_one() -> None:
    assert str(replaced_by("fx", "second", 3, 2)).endswith(
        "end that recorder and start this one again."
    )
    released = str(replaced_by("fx", "", 3, 2))
    assert released.startswith("Feed fx has been recorded by its sources since epoch 3;")
    assert released.endswith("To record here again, start this one again.")
