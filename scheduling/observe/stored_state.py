"""The account and the strategy's part of a stored state, as pages show them, decoded on demand.

A board shows the equity of a thousand portfolios each second, and the positions of none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from math import isfinite
from typing import Any

from portfolios.runtime.context import MAX_METRICS, METRIC_NAME
from portfolios.runtime.errors import StateUnreadable
from portfolios.runtime.state import account_view, decode_outline, decode_state, strategy_view

#: What decoding a stored state may raise: a node may store any bytes.
UNREADABLE = (StateUnreadable, ValueError, ArithmeticError, LookupError, RecursionError)
#: The most digits of an amount before the point: as many as a column of numeric(24, 4) takes. The
#: sum of 10,000 such amounts still has its four places in a Decimal of 28 digits.
MOST_DIGITS = 20
#: The account of a state that cannot be read.
UNKNOWN_ACCOUNT: dict[str, Any] = {"cash": None, "equity": None, "pnl": None, "positions": []}


class OnDemand(Mapping[str, Any]):
    """A mapping that knows some of its values, and computes all of them for any other key."""

    __slots__ = ("_compute", "_known", "_whole")

    def __init__(self, known: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> None:
        self._known = known
        self._compute = compute
        self._whole: dict[str, Any] | None = None

    def __getitem__(self, key: str) -> Any:
        return self._known[key] if key in self._known else self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return True  # without counting, which would compute all

    def _all(self) -> dict[str, Any]:
        """Return all values, which are computed at the first call."""
        if self._whole is None:
            self._whole = self._compute()
        return self._whole


def stored_state(data: bytes) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return (account with amounts as Decimals, the strategy's part) of a stored state.

    Of an unreadable state they are UNKNOWN_ACCOUNT and {}; the node that loads it reports why. This
    never raises, whatever a node has stored: one state must not break a page of all portfolios.
    """
    try:
        outline = decode_outline(data)
        account, equity = outline.account, outline.account.equity
        _check_amounts(account.cash, account.starting_cash, equity)
        known = {
            "cash": account.cash,
            "equity": equity,
            "pnl": equity - account.starting_cash,
            "metrics": shown_metrics(outline.metrics),
        }
    except UNREADABLE:
        return UNKNOWN_ACCOUNT, {}
    shown_account = OnDemand(known, lambda: _account_for_pages(data))
    return shown_account, OnDemand({}, lambda: _strategy_for_pages(data))


def shown_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that `ctx.metric` would have allowed, since a node may store any."""
    allowed = {
        name: value
        for name, value in metrics.items()
        if METRIC_NAME.fullmatch(name) and isfinite(value)
    }
    return dict(islice(allowed.items(), MAX_METRICS))


def _check_amounts(*amounts: Decimal) -> None:
    """Raise StateUnreadable for an amount that is not a number, or longer than any column takes."""
    for amount in amounts:
        if not amount.is_finite() or amount.adjusted() >= MOST_DIGITS:
            wanted = f"a number of at most {MOST_DIGITS} digits before the point"
            raise StateUnreadable(f"the amount {str(amount)[:40]} is not {wanted}")


def readable_account(data: bytes) -> tuple[dict[str, Any], dict[str, float]]:
    """Return (account, metrics) as pages show them. Raise StateUnreadable, and nothing else."""
    try:
        outline = decode_outline(data)
        view = account_view(outline)
        amounts = [value for value in view.values() if isinstance(value, str)]
        for position in view["positions"]:
            amounts += [position["quantity"], position["price"], position["unrealised"]]
        _check_amounts(*map(Decimal, amounts))
        return view, shown_metrics(outline.metrics)
    except UNREADABLE as error:
        raise StateUnreadable(str(error) or type(error).__name__) from error


def readable_strategy(data: bytes) -> dict[str, Any]:
    """Return the strategy's part as pages show it. Raise StateUnreadable, and nothing else."""
    try:
        return strategy_view(decode_state(data))
    except UNREADABLE as error:
        raise StateUnreadable(str(error) or type(error).__name__) from error


def _account_for_pages(data: bytes) -> dict[str, Any]:
    try:
        view, metrics = readable_account(data)
    except StateUnreadable:
        return dict(UNKNOWN_ACCOUNT)
    return {
        "cash": Decimal(view["cash"]),
        "equity": Decimal(view["equity"]),
        "pnl": Decimal(view["pnl"]),
        "drawdown_pct": Decimal(view["drawdown_pct"]),
        "largest_drawdown": Decimal(view["largest_drawdown"]),
        "figures_since": view["figures_since"],
        "metrics": metrics,
        "positions": view["positions"],
    }


def _strategy_for_pages(data: bytes) -> dict[str, Any]:
    try:
        return readable_strategy(data)
    except StateUnreadable:
        return {}
