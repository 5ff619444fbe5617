"""What a strategy is: a function of (parameters, state, event) that answers orders.

Time is `event.time`, randomness is `ctx.random`; no clock, no I/O, no global state. A strategy decides
from positions and open orders, never from "I already sent it": an order may have been suppressed
or refused, and is then decided again at a later event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import msgspec

from portfolios.runtime.events import Event
from portfolios.runtime.state import OpenOrder, Position, StrategyPart


class FieldError(NamedTuple):
    """One parameter that is wrong: for the API's `errors` list."""

    field: str
    code: str  #: required, unknown_parameter, wrong_type, out_of_range, conflict …
    message: str


class OrderIntent(NamedTuple):
    """What the strategy wants. The runtime checks limits and makes the order."""

    symbol: str
    side: Literal["buy", "sell"]
    quantity: Decimal


class Context(Protocol):
    """What a strategy may look at, read only."""

    symbols: frozenset[str] | None  #: None: every symbol

    @property
    def cash(self) -> Decimal: ...

    @property
    def positions(self) -> Mapping[str, Position]: ...

    @property
    def open_orders(self) -> Sequence[OpenOrder]: ...

    @property
    def random(self) -> Random:
        """A generator seeded by (portfolio uid, seq): the same on every node and every replay."""
        ...

    def held(self, symbol: str) -> Decimal:
        """Return the quantity held of `symbol`; 0 if none, negative if short."""
        ...

    def has_open_order(self, symbol: str) -> bool:
        """Return whether an order of `symbol` still waits for its fill."""
        ...


class NoParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For strategies that need none."""


class Strategy:
    """Base of all strategies. One instance serves one portfolio under one revision.

    State is a dict of plain msgpack values (dict with text keys, list, str, int, float, bool, bytes,
    None; a Decimal as its text), mutated in place by `on_event`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  #: raise it when decisions change
    state_version: ClassVar[int] = 1  #: raise it when the shape of the state changes
    parameters_type: ClassVar[type[msgspec.Struct]] = NoParameters
    sees_every_symbol: ClassVar[bool] = False  #: True: a list of symbols is refused

    def __init__(self, parameters: Any) -> None:
        """Keep the parameters, an instance of `parameters_type`. Runs at every load."""
        self.parameters = parameters

    def initial(self) -> dict[str, Any]:
        """Return the state before the first event."""
        return {}

    def on_event(self, ctx: Context, state: dict[str, Any], event: Event) -> Iterable[OrderIntent]:
        """Return the orders decided at this event, usually none. May change `state`."""
        raise NotImplementedError

    def adapt(self, old: StrategyPart) -> dict[str, Any] | None:
        """Return the state made from another revision's part, or None to start empty.

        Asked when strategy, state version or parameters differ. The default keeps the part of the
        same strategy and state version.
        """
        if old.strategy == self.name and old.state_version == self.state_version:
            return old.data
        return None

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Return the JSON schema of the parameters."""
        raise NotImplementedError

    @classmethod
    def validate(
        cls, parameters: Mapping[str, Any], symbols: Sequence[str] = ()
    ) -> list[FieldError]:
        """Return everything that is wrong with the parameters, or an empty list."""
        raise NotImplementedError

    @classmethod
    def check(cls, parameters: Any, symbols: Sequence[str]) -> Iterable[FieldError]:
        """Return what is wrong across fields; asked when each field alone is right. Override it."""
        return ()
