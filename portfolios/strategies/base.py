"""What a strategy is: a function of (parameters, state, event) that answers orders.

Time is `event.time`, randomness is `ctx.random`; no clock, no I/O, no global state. A strategy
decides from positions and open orders, never from "I already sent it": an order may have been
suppressed or refused, and is then decided again at a later event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import msgspec

from portfolios.runtime.events import Event
from portfolios.runtime.state import OpenOrder, Position, StrategyPart
from portfolios.strategies.validation_messages import NOT_A_DECIMAL, describe

#: More of one share than was ever issued; keeps a mistyped quantity out of the books.
MAX_QUANTITY = Decimal(1_000_000_000)


class FieldError(NamedTuple):
    """One parameter that is wrong: for the API's `errors` list."""

    field: str
    code: str  #: required, unknown_parameter, wrong_type, out_of_range, conflict, every_symbol
    message: str


class OrderIntent(NamedTuple):
    """What the strategy wants. The runtime checks limits and makes the order."""

    symbol: str
    side: Literal["buy", "sell"]
    quantity: Decimal


class Context(Protocol):
    """What a strategy may look at, and must not change."""

    @property
    def symbols(self) -> frozenset[str] | None:
        """The portfolio's symbols; None means every symbol of the feed."""

    @property
    def cash(self) -> Decimal:
        """Money at hand, before the open orders are paid."""

    @property
    def positions(self) -> Mapping[str, Position]:
        """What is held, by symbol; a symbol of which nothing is held is absent."""

    @property
    def open_orders(self) -> Sequence[OpenOrder]:
        """Orders that wait for the next event of their symbol."""

    @property
    def random(self) -> Random:
        """A generator seeded by (portfolio uid, seq): the same on every node and every replay."""

    def held(self, symbol: str) -> Decimal:
        """Return the quantity held of `symbol`; 0 if none, negative if short."""

    def has_open_order(self, symbol: str) -> bool:
        """Return whether an order of `symbol` still waits for its fill."""


class NoParameters(msgspec.Struct, frozen=True):
    """For strategies that need none."""


class Strategy:
    """Base of all strategies. One instance serves one portfolio under one revision.

    State is a dict of plain msgpack values (dict with text keys, list, str, int, float, bool,
    bytes, None; a Decimal as its text), mutated in place by `on_event`.
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

    def on_event(
        self, ctx: Context, state: dict[str, Any], event: Event
    ) -> Iterable[OrderIntent] | None:
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
        return msgspec.json.schema(cls.parameters_type)

    @classmethod
    def validate(
        cls, parameters: Mapping[str, Any], symbols: Sequence[str] = ()
    ) -> list[FieldError]:
        """Return everything that is wrong with the parameters, or an empty list.

        Whether the symbols exist is the feed's knowledge and not asked here.
        """
        errors = list(cls._field_errors(parameters))
        if not errors:
            errors = list(cls.check(cls.convert(parameters), symbols))
        if cls.sees_every_symbol and symbols and "*" not in symbols:
            errors.append(
                FieldError(
                    "symbols",
                    "every_symbol",
                    f"{cls.name} sees every symbol; leave symbols empty.",
                )
            )
        return errors

    @classmethod
    def check(cls, parameters: Any, symbols: Sequence[str]) -> Iterable[FieldError]:
        """Return what is wrong across fields; asked when each field alone is right. Override it."""
        return ()

    @classmethod
    def convert(cls, parameters: Mapping[str, Any]) -> msgspec.Struct:
        """Return the parameters typed. Raise msgspec.ValidationError if they do not fit."""
        return msgspec.convert(dict(parameters), cls.parameters_type)

    @classmethod
    def _field_errors(cls, parameters: Mapping[str, Any]) -> Iterable[FieldError]:
        """Yield what is wrong with each parameter taken alone."""
        fields = {field.name: field for field in msgspec.structs.fields(cls.parameters_type)}
        for name in sorted(set(map(str, parameters)) - set(fields)):
            known = ", ".join(sorted(fields)) or "none"
            yield FieldError(
                name, "unknown_parameter", f"{cls.name} has no parameter {name}; it has: {known}."
            )
        for name, field in fields.items():
            if name in parameters:
                yield from _value_errors(name, parameters[name], field.type)
            elif field.required:
                yield FieldError(name, "required", f"{cls.name} needs the parameter {name}.")


def _value_errors(name: str, value: Any, wanted: Any) -> Iterable[FieldError]:
    try:
        converted = msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        said = str(error)
        code = "wrong_type" if ", got `" in said or said.startswith("Invalid") else "out_of_range"
        yield FieldError(name, code, f"{name} {describe(said, value)}.")
        return
    if isinstance(converted, Decimal) and not converted.is_finite():
        yield FieldError(name, "out_of_range", f"{name}: {value} is no finite number.")
    elif isinstance(converted, Decimal) and not str(value).isascii():
        yield FieldError(name, "wrong_type", f"{name} {describe(NOT_A_DECIMAL, value)}.")


def quantity_errors(name: str, quantity: Decimal) -> Iterable[FieldError]:
    """Yield what is wrong with a parameter that is the quantity of an order."""
    if not 0 < quantity <= MAX_QUANTITY:
        yield FieldError(
            name, "out_of_range", f"{name}: {quantity} is not over 0 and up to {MAX_QUANTITY}."
        )
    elif quantity != quantity.quantize(Decimal("0.0001")):
        yield FieldError(name, "out_of_range", f"{name}: {quantity} has more than four places.")
