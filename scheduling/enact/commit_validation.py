"""Whether the lines of a commit fit the columns they go into.

What does not would fail the statement of a whole request, in which other portfolios are as well;
only what depends on rows that exist already is left for the statement to find.
"""

from __future__ import annotations

import re

from scheduling.wire.messages import Commit, FillLine, OrderLine

NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?", re.ASCII)
WHOLE_DIGITS = 20  #: before the point; the columns are numeric(24, 4)
MAX_INDEX = 32_767
MAX_SYMBOL = 24
SIDES = frozenset({"buy", "sell"})
STATUSES = frozenset({"open", "filled", "suppressed", "refused"})


def first_invalid_line(commit: Commit) -> str:
    """Return what makes a line of `commit` unacceptable, or "" if nothing does. Pure.

    Every commit of the fleet goes through here: one loop over each kind of line, and no more.
    """
    for order in commit.orders:
        if wrong := _wrong(order) or _wrong_status(order):
            return wrong
    for fill in commit.fills:
        if wrong := _wrong(fill) or _wrong_order(fill, commit.to_seq):
            return wrong
    for point in commit.equity:
        if wrong := _wrong_number(point.equity):
            return wrong
    return _twice(commit)


def _wrong(line: OrderLine | FillLine) -> str:
    if not 0 <= line.index <= MAX_INDEX:
        return f"the index {line.index} is out of range"
    if not 0 < len(line.symbol) <= MAX_SYMBOL or "\0" in line.symbol:
        return f"{line.symbol[:40]!r} is no symbol"
    if line.side not in SIDES:
        return f"the side {line.side[:40]!r} is none of buy, sell"
    return _wrong_number(line.quantity) or _wrong_number(line.price)


def _wrong_status(order: OrderLine) -> str:
    if order.status not in STATUSES:
        return f"the status {order.status[:40]!r} is none of {', '.join(sorted(STATUSES))}"
    if "\0" in order.reason:
        return "the reason of an order holds a NUL"
    return ""


def _wrong_order(fill: FillLine, to_seq: int) -> str:
    if not 0 <= fill.order_index <= MAX_INDEX:
        return f"the index {fill.order_index} is out of range"
    if not 0 <= fill.order_seq <= to_seq:
        return f"a fill names an order of seq {fill.order_seq}, which lies ahead"
    return ""


def _wrong_number(text: str) -> str:
    # PostgreSQL would take "NaN" for a number, and nobody could add up an account again.
    if not NUMBER.fullmatch(text):
        return f"{text[:40]!r} is no decimal number"
    if len(text) > WHOLE_DIGITS and len(_whole_part(text)) > WHOLE_DIGITS:
        return f"the number {text[:60]} has over {WHOLE_DIGITS} digits before the point"
    return ""


def _whole_part(text: str) -> str:
    return text.lstrip("-").partition(".")[0].lstrip("0")


def _twice(commit: Commit) -> str:
    orders, fills, equity = commit.orders, commit.fills, commit.equity
    if (
        (len(orders) > 1 and len({(o.seq, o.index) for o in orders}) < len(orders))
        or (len(fills) > 1 and len({(f.fill_seq, f.index) for f in fills}) < len(fills))
        or (len(equity) > 1 and len({e.seq for e in equity}) < len(equity))
    ):
        return "two of its orders, fills or equity points are one and the same"
    return ""
