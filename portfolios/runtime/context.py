"""The view of its portfolio that a strategy gets with each event."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from random import Random
from types import MappingProxyType

from portfolios.runtime.money import ZERO
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import Account, OpenOrder, Position


class EventContext:
    """A read-only view of the account. Created once per engine; `seq` follows the events."""

    __slots__ = (
        "_account", "_random", "_random_seq", "_uid", "_waiting", "positions", "seq", "symbols",
    )  # fmt: skip

    def __init__(self, spec: Spec, account: Account, waiting: set[str]) -> None:
        """View `account`; the engine sets `seq` before each decision, and keeps in `waiting` the
        symbols that have open orders."""
        self._account = account
        self._waiting = waiting
        self._uid = spec.uid
        self.symbols: frozenset[str] | None = spec.symbol_set()
        self.positions: Mapping[str, Position] = MappingProxyType(account.positions)
        self.seq = 0
        self._random: Random | None = None
        self._random_seq = 0

    @property
    def cash(self) -> Decimal:
        """Return the cash, before open orders are paid."""
        return self._account.cash

    @property
    def open_orders(self) -> tuple[OpenOrder, ...]:
        """Return the orders that are not filled, cancelled or expired, oldest first."""
        return tuple(self._account.open_orders)

    @property
    def random(self) -> Random:
        """Return the generator of this event, seeded by (portfolio uid, seq)."""
        if self._random is None or self._random_seq != self.seq:
            self._random = Random(
                f"{self._uid}:{self.seq}"
            )  # a text seed does not depend on hash()
            self._random_seq = self.seq
        return self._random

    def held(self, symbol: str) -> Decimal:
        """Return the quantity held of `symbol`; 0 if none, negative if short."""
        position = self._account.positions.get(symbol)
        return ZERO if position is None else position.quantity

    def has_open_order(self, symbol: str) -> bool:
        """Return whether an order of `symbol` still waits for its fill."""
        return symbol in self._waiting
