"""The runtime's view of a portfolio and one of its revisions: what to trade, with which limits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from portfolios.runtime.money import ZERO


class Limits(msgspec.Struct, frozen=True):
    """Limits checked when a strategy decides; an order beyond one is recorded as refused."""

    largest_order: Decimal | None = None  #: quantity of one order
    largest_position: Decimal | None = None  #: held or owed of one symbol, with open orders
    allow_short: bool = False
    allow_negative_cash: bool = False
    largest_notional: Decimal | None = None  #: quantity of one order times its price
    orders_per_minute: int | None = None  #: placed in one minute of feed time
    largest_drawdown_pct: Decimal | None = None
    """Per cent below the highest equity at which the portfolio halts. Judged at equity points."""

    @property
    def unknown_to_older_releases(self) -> bool:
        """Return whether a limit is set that older releases of Ginkgo would ignore.

        The state then gets a format that they refuse to read: HOOKS_FORMAT or higher.
        """
        return (self.orders_per_minute, self.largest_drawdown_pct) != (None, None)


class BrokerSettings(msgspec.Struct, frozen=True):
    """Costs of the paper broker; by default there are none."""

    fee_per_order: Decimal = ZERO  #: of each fill; an order fills as a whole
    fee_per_share: Decimal = ZERO
    fee_bps: Decimal = ZERO  #: of the value, in hundredths of a per cent
    slippage_bps: Decimal = ZERO  #: of the price, for market and stop orders
    slippage_ticks: int = 0  #: in addition, in units of `tick_size`
    tick_size: Decimal = Decimal("0.01")  #: of `slippage_ticks`, for every symbol

    @property
    def charges(self) -> bool:
        """Return whether a fill has a fee."""
        return bool(self.fee_per_order or self.fee_per_share or self.fee_bps)

    @property
    def slips(self) -> bool:
        """Return whether market and stop orders fill at a worse price."""
        return bool(self.slippage_bps or self.slippage_ticks)


class Spec(msgspec.Struct, frozen=True):
    """One portfolio under one revision. Sent to its process in `Load`."""

    portfolio: str  #: its name
    uid: str  #: its UUID as text; order ids are "{uid}-{seq}-{index}"
    revision: int
    strategy: str
    strategy_version: int
    parameters: dict[str, Any]
    symbols: list[str]  #: empty or ["*"]: every symbol of the feed
    starting_cash: Decimal
    first_seq: int  #: the first event it handles; a new portfolio is at first_seq - 1
    limits: Limits = Limits()
    artifact: str = ""  #: sha256 of the wheel that has the strategy; empty: the node's own code
    environment: str = ""  #: env_sha256 of the wheel's dependencies; empty: the node's own packages
    strategy_class: str = ""  #: of an artifact: `package.module:Class`
    broker: BrokerSettings = BrokerSettings()

    def symbol_set(self) -> frozenset[str] | None:
        """Return the symbols of this portfolio, or None for every symbol."""
        return symbol_set(self.symbols)


def symbol_set(symbols: list[str]) -> frozenset[str] | None:
    """Return `symbols` as a set, or None if they mean every symbol."""
    return None if not symbols or "*" in symbols else frozenset(symbols)
