"""Replies of a portfolio process are accepted only if they answer the request."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from portfolios.runtime import messages
from portfolios.runtime.results import BatchResult, EquityRow, FillRow, OrderRow
from scheduling.node_daemon.reply_validation import (
    MAX_ERROR,
    MAX_TRACE,
    InvalidReply,
    validate_reply,
)
from tests.support.market_factories import spec

ASKED = messages.Batch(10, 20, False, b"")
ORDER = OrderRow(15, 0, "KO", "buy", Decimal("1"), Decimal("9.5000"), "open", None, 1_000)
FILL = FillRow(12, 0, 16, 0, "KO", "buy", Decimal("1"), Decimal("9.5000"), 1_000)
AMOUNT = "an amount that is not finite or has over 40 digits at seq"
RANGE, EXPECTED = "a result whose (from_seq, to_seq, suppress) is", "(10, 20, False)"
POINT = EquityRow(17, 1_000, Decimal("100000.0000"))


def body(reply: messages.Reply) -> bytes:
    return messages.encode_message(reply)[messages.HEADER.size :]


def result(**changes: Any) -> messages.Result:
    values: dict[str, Any] = {
        "from_seq": 10, "to_seq": 20, "state": None, "orders": [ORDER], "fills": [FILL],
        "equity": [POINT], "suppress": False,
    }  # fmt: skip
    return messages.Result(BatchResult(**{**values, **changes}))


def changed(row: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(row, **changes)


def test_failure_is_accepted_and_truncated() -> None:
    failed = validate_reply(ASKED, body(messages.Failed("event", 12, "x" * 10_000, "y" * 10_000)))
    assert failed == messages.Failed("event", 12, "x" * MAX_ERROR, "y" * MAX_TRACE)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"from_seq": 9}, f"{RANGE} (9, 20, False), not {EXPECTED}"),
        ({"to_seq": 21}, f"{RANGE} (10, 21, False), not {EXPECTED}"),
        ({"suppress": True}, f"{RANGE} (10, 20, True), not {EXPECTED}"),
        ({"orders": [changed(ORDER, seq=10)]}, "an order at seq 10, outside its batch"),
        ({"orders": [changed(ORDER, seq=21)]}, "an order at seq 21, outside its batch"),
        ({"orders": [changed(ORDER, index=-1)]}, "the index -1 at seq 15"),
        ({"orders": [changed(ORDER, index=40_000)]}, "the index 40000 at seq 15"),
        ({"orders": [changed(ORDER, decided_us=10**18)]}, "the time 1000000000000000000 at seq 15"),
        ({"orders": [changed(ORDER, decided_us=-1)]}, "the time -1 at seq 15"),
        ({"orders": [changed(ORDER, quantity=Decimal("NaN"))]}, f"{AMOUNT} 15"),
        ({"orders": [changed(ORDER, price=Decimal("1e999"))]}, f"{AMOUNT} 15"),
        ({"orders": [changed(ORDER, price=Decimal("1e-999"))]}, f"{AMOUNT} 15"),
        ({"orders": [changed(ORDER, symbol="K" * 25)]}, "a symbol of 25 characters"),
        ({"orders": [changed(ORDER, symbol="K\0")]}, "a symbol of 2 characters"),
        ({"orders": [changed(ORDER, reason="x" * 601)]}, "a text of 601 characters at seq 15"),
        ({"orders": [changed(ORDER, price=Decimal("9" * 50))]}, f"{AMOUNT} 15"),
        ({"fills": [changed(FILL, fill_seq=10)]}, "a fill at seq 10, outside its batch"),
        ({"fills": [changed(FILL, fill_seq=21)]}, "a fill at seq 21, outside its batch"),
        ({"fills": [changed(FILL, quantity=Decimal("NaN"))]}, f"{AMOUNT} 16"),
        ({"fills": [changed(FILL, price=Decimal("Infinity"))]}, f"{AMOUNT} 16"),
        ({"fills": [changed(FILL, symbol="\x1b")]}, "a symbol of 1 characters"),
        ({"equity": [changed(POINT, seq=10)]}, "an equity point at seq 10, outside its batch"),
        ({"equity": [changed(POINT, seq=21)]}, "an equity point at seq 21, outside its batch"),
        ({"equity": [changed(POINT, equity=Decimal("-1e60"))]}, f"{AMOUNT} 17"),
    ],
)
def test_result_that_contradicts_its_batch_is_invalid(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidReply) as said:
        validate_reply(ASKED, body(result(**changes)))
    assert str(said.value).startswith(f"with {why}")


def test_open_order_in_a_suppressed_batch_is_invalid() -> None:
    suppressed = messages.Batch(10, 20, True, b"")
    honest = result(orders=[changed(ORDER, status="suppressed")], suppress=True)
    assert validate_reply(suppressed, body(honest)) == honest
    with pytest.raises(InvalidReply, match="although the batch is suppressed"):
        validate_reply(suppressed, body(result(suppress=True)))


LOAD = messages.Load(spec("canary"), None, 0)


@pytest.mark.parametrize(
    ("request_", "reply", "why"),
    [
        (ASKED, body(messages.Loaded(20, False)), "with the reply to a load, not to a batch"),
        (ASKED, b"hello", "with 5 bytes that cannot be decoded"),
        (LOAD, body(result()), "with the result of a batch, not with the reply to a load"),
        (LOAD, body(messages.Loaded(0, False, ["KO"] * 10_001)), "with 10001 symbols in use"),
    ],
    ids=["load reply to a batch", "malformed", "result to a load", "too many symbols"],
)
def test_reply_that_does_not_answer_its_request_is_invalid(
    request_: messages.Load | messages.Batch, reply: bytes, why: str
) -> None:
    assert validate_reply(LOAD, body(messages.Loaded(0, False))) == messages.Loaded(0, False)
    with pytest.raises(InvalidReply, match=why):
        validate_reply(request_, reply)
