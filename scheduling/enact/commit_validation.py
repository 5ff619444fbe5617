"""Check that a commit and its lines are valid whatever the run is, and fit their columns.

An invalid line would fail the statement of a whole request, which has other portfolios too. Only
conditions on existing rows are left to the statement. Functions return what is wrong, "": nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import isfinite
from operator import attrgetter
from typing import Any
from uuid import UUID

from portfolios.runtime.context import METRIC_NAME
from portfolios.runtime.events import MAX_SCALE
from scheduling.enact.commit_columns import is_plain_order
from scheduling.wire.messages import (
    LATEST_US,
    MAX_INDEX,
    MAX_REASON,
    MAX_REFUSED_AGAIN,
    MAX_SYMBOL,
    MAX_TAG,
    Commit,
    FillLine,
    OrderEndLine,
    OrderLine,
)

NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?", re.ASCII)
WHOLE_DIGITS = 20  #: before the point; quantities are numeric(24, 4)
SIDES = frozenset({"buy", "sell"})
STATUSES = frozenset({"open", "filled", "suppressed", "refused"})
END_STATUSES = frozenset({"cancelled", "expired"})
KINDS = frozenset({"market", "limit", "stop"})
TIMES_IN_FORCE = frozenset({"gtc", "ioc"})
#: Half of what a bigint holds: a statement for all portfolios that adds to a seq must not overflow.
LARGEST = 2**62


def validate_commit(commit: Commit) -> str:
    """Return why `commit` is invalid regardless of the run, or "" if it is valid. Pure."""
    for name, number in (
        ("portfolio", commit.portfolio), ("epoch", commit.epoch), ("from_seq", commit.from_seq),
        ("to_seq", commit.to_seq), ("feed_us", commit.feed_us),
    ):  # fmt: skip
        if not -LARGEST <= number <= LARGEST:
            return f"{name} is {number}, outside ±{LARGEST}"
    if not 0 <= commit.refused_again <= MAX_REFUSED_AGAIN:
        return f"refused_again is {commit.refused_again}, outside 0 to {MAX_REFUSED_AGAIN}"
    if len(commit.record) not in (0, 32):
        return f"the hash of the last record has {len(commit.record)} bytes; it must have 32"
    if commit.to_seq < commit.from_seq:
        return f"to_seq {commit.to_seq} lies before from_seq {commit.from_seq}"
    try:
        UUID(commit.batch)
    except ValueError:
        return f"batch {commit.batch[:40]!r} is not a UUID"
    seqs = [o.seq for o in commit.orders] + [f.fill_seq for f in commit.fills]
    seqs += [e.seq for e in commit.equity] + [e.seq for e in commit.ended]
    seqs += [m.seq for m in commit.metrics]
    for seq in seqs:
        if not commit.from_seq < seq <= commit.to_seq:
            return (
                f"seq {seq} of an order, the end of an order, a fill, a metric or an equity point "
                f"lies outside the batch, which has seqs {commit.from_seq + 1} to {commit.to_seq}"
            )
    times = [o.decided_us for o in commit.orders] + [f.at_us for f in commit.fills]
    times += [e.at_us for e in commit.equity] + [m.at_us for m in commit.metrics]
    for at_us in times:
        if not 0 <= at_us <= LATEST_US:
            return f"the time {at_us} lies outside the years 1970 to 9999"
    return _first_invalid_line(commit)


def _first_invalid_line(commit: Commit) -> str:
    """Return the error of the first invalid line of `commit`, or "" if all are valid. Pure."""
    for order in commit.orders:
        if error := _line_error(order) or _order_fields_error(order):
            return error
    for fill in commit.fills:
        if error := (
            _line_error(fill)
            or _filled_order_error(fill, commit.to_seq)
            or _number_error("fee", fill.fee)
        ):
            return error
    for end in commit.ended:
        if error := _end_error(end):
            return error
    for point in commit.equity:
        if error := _number_error("equity", point.equity):
            return error
    for metric in commit.metrics:
        if not METRIC_NAME.fullmatch(metric.name):
            return f"{metric.name[:80]!r} is not the name of a metric"
        if not isfinite(metric.value):
            return f"the metric {metric.name} is {metric.value}, not a finite number"
    return _duplicate_error(commit)


def _index_message(index: int) -> str:
    return f"the index {index} of an order or fill lies outside 0 to {MAX_INDEX}"


def _line_error(line: OrderLine | FillLine) -> str:
    """Return what is wrong with the fields that orders and fills have, or "" if nothing is."""
    if not 0 <= line.index <= MAX_INDEX:
        return _index_message(line.index)
    if not 0 < len(line.symbol) <= MAX_SYMBOL or "\0" in line.symbol:
        return f"{line.symbol[:40]!r} is not a symbol of 1 to {MAX_SYMBOL} characters without NUL"
    if line.side not in SIDES:
        return f"the side {line.side[:40]!r} is not one of buy, sell"
    return _number_error("quantity", line.quantity) or _price_error(line.price)


def _order_fields_error(order: OrderLine) -> str:
    """Return what is wrong with the fields that only orders have, or "" if nothing is."""
    if order.status not in STATUSES:
        return f"the status {order.status[:40]!r} is not one of {', '.join(sorted(STATUSES))}"
    if error := _reason_error(order.reason):
        return error
    return "" if is_plain_order(order) else _special_order_error(order)


def _special_order_error(order: OrderLine) -> str:
    """Return what is wrong with kind, time in force, tag or prices, or "" if nothing is."""
    if order.kind not in KINDS:
        return f"the kind {order.kind[:40]!r} is not one of {', '.join(sorted(KINDS))}"
    if order.time_in_force not in TIMES_IN_FORCE:
        return f"the time in force {order.time_in_force[:40]!r} is not gtc or ioc"
    if len(order.tag) > MAX_TAG or "\0" in order.tag:
        return f"the tag {order.tag[:40]!r} is not a text of up to {MAX_TAG} characters without NUL"
    for price in (order.limit_price, order.stop_price):
        if price and (error := _price_error(price)):
            return error
    return ""


def _end_error(end: OrderEndLine) -> str:
    """Return what is wrong with the end of an order, or "" if nothing is."""
    if not 0 <= end.order_index <= MAX_INDEX:
        return _index_message(end.order_index)
    if not 0 <= end.order_seq <= end.seq:
        return f"an order of seq {end.order_seq} ends before it, at seq {end.seq}"
    if end.status not in END_STATUSES:
        return f"the status {end.status[:40]!r} is not one of {', '.join(sorted(END_STATUSES))}"
    return _reason_error(end.reason)


def _reason_error(reason: str) -> str:
    if len(reason) > MAX_REASON:
        return f"the reason of an order or its end has {len(reason)} characters, limit {MAX_REASON}"
    return "the reason of an order or its end has a NUL" if "\0" in reason else ""


def _filled_order_error(fill: FillLine, to_seq: int) -> str:
    """Return why the order that a fill names cannot exist in a commit up to `to_seq`, or ""."""
    if not 0 <= fill.order_index <= MAX_INDEX:
        return _index_message(fill.order_index)
    if not 0 <= fill.order_seq <= to_seq:
        return f"a fill names an order of seq {fill.order_seq}, outside 0 to {to_seq}"
    return ""


def _number_error(what: str, text: str) -> str:
    """Return why the `what` of a line, such as its price, cannot be stored as a number, or ""."""
    # PostgreSQL would accept NaN, and every sum over the account would then be NaN.
    if not NUMBER.fullmatch(text):
        return f"the {what} {text[:40]!r} is not a decimal number"
    if len(text) > WHOLE_DIGITS:  # few are: the digits of the others need no counting
        digits_before_point = text.lstrip("-").partition(".")[0].lstrip("0")
        if len(digits_before_point) > WHOLE_DIGITS:
            return f"the {what} {text[:60]} has over {WHOLE_DIGITS} digits before the point"
    return ""


def _price_error(text: str) -> str:
    if len(text.partition(".")[2]) > MAX_SCALE:
        return f"the price {text[:60]} has over {MAX_SCALE} decimal places"
    return _number_error("price", text)


#: What a commit may not have twice: (its name, the lines of a commit, the key of a line).
_KEYS: tuple[tuple[str, Callable[[Any], Sequence[Any]], Callable[[Any], Any]], ...] = (
    ("orders of the same seq and index", attrgetter("orders"), attrgetter("seq", "index")),
    ("fills of the same seq and index", attrgetter("fills"), attrgetter("fill_seq", "index")),
    ("ends of the same order", attrgetter("ended"), attrgetter("order_seq", "order_index")),
    ("metrics of the same seq and name", attrgetter("metrics"), attrgetter("seq", "name")),
    ("equity points of the same seq", attrgetter("equity"), attrgetter("seq")),
)


def _duplicate_error(commit: Commit) -> str:
    """Return which lines have the same key, by which they are stored, or "" if none have."""
    for kind, lines_of, key_of in _KEYS:
        lines = lines_of(commit)
        if len(lines) > 1 and len(set(map(key_of, lines))) < len(lines):
            return f"the commit has two {kind}"
    return ""
