"""The view of its portfolio that a strategy gets with each event."""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from random import Random
from types import MappingProxyType

from portfolios.runtime.money import ZERO
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import HOOKS_FORMAT, OpenOrder, Position, State

MAX_TIMERS, MAX_METRICS = 32, 32  #: that one portfolio may have at a time
MAX_METRIC_NAME = 64
METRIC_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{MAX_METRIC_NAME - 1}}}", re.ASCII)
MAX_DUE_US = 253_402_300_799_000_000  #: the end of the year 9999


class EventContext:
    """A read-only view of the account. Created once per engine; `seq` follows the events."""

    __slots__ = (
        "_account",
        "_held",
        "_random",
        "_random_seq",
        "_state",
        "_uid",
        "_waiting",
        "positions",
        "seq",
        "symbols",
    )

    def __init__(self, spec: Spec, state: State, waiting: set[str]) -> None:
        """View `state`. The engine sets `seq` and updates `waiting`, symbols with open orders."""
        account = state.account
        self._state = state
        self._account = account
        self._held = account.positions
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
            # A text seed does not depend on hash().
            self._random = Random(f"{self._uid}:{self.seq}")
            self._random_seq = self.seq
        return self._random

    def held(self, symbol: str) -> Decimal:
        """Return the quantity held of `symbol`; 0 if none, negative if short."""
        position = self._held.get(symbol)
        return ZERO if position is None else position.quantity

    def has_open_order(self, symbol: str) -> bool:
        """Return whether an order of `symbol` still waits for its fill."""
        return symbol in self._waiting

    def set_timer(self, due: int) -> None:
        """Call `on_timer` before the first event released at or after `due`, in µs since the epoch.

        The same time set twice is one timer. Raise ValueError if `due` is no such time, or if
        MAX_TIMERS others are set.
        """
        if type(due) is not int or not 0 <= due <= MAX_DUE_US:
            raise ValueError(
                f"a timer is due at {due!r}: give a whole number (int) of µs since the epoch, as"
                " event.released"
            )
        timers = self._state.timers
        if due in timers:
            return
        if len(timers) >= MAX_TIMERS:
            raise ValueError(f"{MAX_TIMERS} timers are set, which is the limit")
        insort(timers, due)
        self._state.raise_format_to(HOOKS_FORMAT)

    def metric(self, name: str, value: float) -> None:
        """Set the value of a metric, which is sampled at each equity point.

        Raise ValueError if the value is not finite, the name invalid, or MAX_METRICS others exist.
        """
        metrics, number = self._state.metrics, float(value)
        if not isfinite(number):
            raise ValueError(f"the metric {name} is {value}: give a finite number")
        if name not in metrics:
            if not isinstance(name, str) or not METRIC_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r:.80} is not the name of a metric: use small letters, digits and _,"
                    f" a letter first, {MAX_METRIC_NAME} characters at most"
                )
            if len(metrics) >= MAX_METRICS:
                raise ValueError(
                    f"{MAX_METRICS} metrics are set, which is the limit: {name} would be one more"
                )
            self._state.raise_format_to(HOOKS_FORMAT)
        metrics[name] = number

    def log(self, text: object) -> None:
        """Print `text`; the node reads the output of this process."""
        print(text)
