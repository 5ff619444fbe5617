"""The account and the strategy's part of a stored state, as pages show them, decoded on demand.

A board shows the equity of a thousand portfolios each second, and the positions of none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from math import isfinite
from typing import Any

import msgspec

from portfolios.runtime.context import MAX_METRICS, METRIC_NAME
from portfolios.runtime.errors import StateUnreadable
from portfolios.runtime.state import account_view, decode_outline, decode_state, strategy_view

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
        if self._whole is None:
            self._whole = self._compute()
        return self._whole


def stored_state(data: bytes) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the account, amounts as Decimals, and the strategy's part of a stored state.

    An unreadable one is shown as unknown; the node that loads the state reports the cause.
    """
    try:
        outline = decode_outline(data)
        account, equity = outline.account, outline.account.equity
        known = {
            "cash": account.cash,
            "equity": equity,
            "pnl": equity - account.starting_cash,
            "metrics": shown_metrics(outline.metrics),
        }
    except (StateUnreadable, msgspec.MsgspecError):
        return UNKNOWN_ACCOUNT, {}
    return OnDemand(known, lambda: _account(data)), OnDemand({}, lambda: _strategy(data))


def shown_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that `ctx.metric` allows: a node may have stored any others."""
    allowed = {
        name: value
        for name, value in metrics.items()
        if METRIC_NAME.fullmatch(name) and isfinite(value)
    }
    return dict(islice(allowed.items(), MAX_METRICS))


def _account(data: bytes) -> dict[str, Any]:
    try:
        state = decode_state(data)
    except (StateUnreadable, msgspec.MsgspecError):
        return dict(UNKNOWN_ACCOUNT)
    view = account_view(state)
    return {
        "cash": Decimal(view["cash"]),
        "equity": Decimal(view["equity"]),
        "pnl": Decimal(view["pnl"]),
        "drawdown_pct": Decimal(view["drawdown_pct"]),
        "largest_drawdown": Decimal(view["largest_drawdown"]),
        "figures_since": view["figures_since"],
        "metrics": shown_metrics(state.metrics),
        "positions": view["positions"],
    }


def _strategy(data: bytes) -> dict[str, Any]:
    try:
        return strategy_view(decode_state(data))
    except (StateUnreadable, msgspec.MsgspecError):
        return {}
