"""Whether the lines of a commit fit the columns they go into.

What does not would fail the statement of a whole request, in which other portfolios are as well;
only what depends on rows that exist already is left for the statement to find.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from scheduling.wire.messages import Commit, FillLine, OrderLine

NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?", re.ASCII)
WHOLE_DIGITS = 20  #: before the point; the columns are numeric(24, 4)
MOST_INDEX = 32_767
LONGEST_SYMBOL = 24
SIDES = frozenset({"buy", "sell"})
STATUSES = frozenset({"open", "filled", "suppressed", "refused"})


def wrong_line(commit: Commit) -> str:
    """Return what makes a line of `commit` unacceptable, or "" if nothing does. Pure."""
    orders, fills, equity = commit.orders, commit.fills, commit.equity
    for lines, keys in (
        ("orders", {(o.seq, o.index) for o in orders}),
        ("fills", {(f.fill_seq, f.index) for f in fills}),
        ("equity", {e.seq for e in equity}),
    ):
        if len(keys) != len(getattr(commit, lines)):
            return f"two lines of its {lines} are one and the same"
    return (
        _wrong_index([o.index for o in orders] + [f.index for f in fills])
        or _wrong_index(f.order_index for f in fills)
        or _wrong_order_seq(commit)
        or _wrong_text(commit)
        or _wrong_number(text for o in orders for text in (o.quantity, o.price))
        or _wrong_number(text for f in fills for text in (f.quantity, f.price))
        or _wrong_number(e.equity for e in equity)
    )


def _wrong_index(indexes: Iterable[int]) -> str:
    for index in indexes:
        if not 0 <= index <= MOST_INDEX:
            return f"the index {index} is out of range"
    return ""


def _wrong_order_seq(commit: Commit) -> str:
    for fill in commit.fills:
        if not 0 <= fill.order_seq <= commit.to_seq:
            return f"a fill names an order of seq {fill.order_seq}, which lies ahead"
    return ""


def _wrong_text(commit: Commit) -> str:
    lines: list[OrderLine | FillLine] = [*commit.orders, *commit.fills]
    for line in lines:
        if not 0 < len(line.symbol) <= LONGEST_SYMBOL or "\0" in line.symbol:
            return f"{line.symbol[:40]!r} is no symbol"
        if line.side not in SIDES:
            return f"the side {line.side[:40]!r} is none of buy, sell"
    for order in commit.orders:
        if order.status not in STATUSES:
            return f"the status {order.status[:40]!r} is none of {', '.join(sorted(STATUSES))}"
        if "\0" in order.reason:
            return "the reason of an order holds a NUL"
    return ""


def _wrong_number(numbers: Iterable[str]) -> str:
    for text in numbers:
        # PostgreSQL would take "NaN" for a number, and nobody could add up an account again.
        if not NUMBER.fullmatch(text):
            return f"{text[:40]!r} is no decimal number"
        if len(text) > WHOLE_DIGITS and len(_whole_part(text)) > WHOLE_DIGITS:
            return f"the number {text[:60]} has over {WHOLE_DIGITS} digits before the point"
    return ""


def _whole_part(text: str) -> str:
    return text.lstrip("-").partition(".")[0].lstrip("0")
