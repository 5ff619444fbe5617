"""The runtime's view of a portfolio and one of its revisions: what to trade, with which limits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Limits checked when a strategy decides; an order beyond one is recorded as refused."""

    largest_order: Decimal | None = None  #: quantity of one order
    largest_position: Decimal | None = (
        None  #: quantity held or owed of one symbol, open orders included
    )
    allow_short: bool = False
    allow_negative_cash: bool = False


class Spec(msgspec.Struct, frozen=True):
    """One portfolio under one revision. Sent to the worker in `Load`."""

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

    def symbol_set(self) -> frozenset[str] | None:
        """Return the symbols of this portfolio, or None for every symbol."""
        return symbol_set(self.symbols)


def symbol_set(symbols: list[str]) -> frozenset[str] | None:
    """Return `symbols` as a set, or None if they mean every symbol."""
    return None if not symbols or "*" in symbols else frozenset(symbols)
