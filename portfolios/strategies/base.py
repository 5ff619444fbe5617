"""The base class of strategies: a strategy is a function of (parameters, state, event) → orders.

Time is `event.time`, randomness is `ctx.random`; no clock, no I/O, no global state. A strategy
decides from positions and open orders, never from "I already sent it": an order may have been
suppressed or refused, and is then decided again at a later event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

import msgspec

from portfolios.runtime.events import Bar, Event
from portfolios.runtime.results import OrderKind, TimeInForce
from portfolios.runtime.state import OpenOrder, Position, StrategyPart
from portfolios.sentences import sentence as _
from portfolios.strategies.validation_messages import NOT_A_DECIMAL, sentence_of_decoder

#: More shares than any company has issued: rejects mistyped quantities.
MAX_QUANTITY = Decimal(1_000_000_000)


#: The type of a field whose value only its owner may read. Every viewer can read a configuration,
#: so a configuration with such a field is refused. Schemas say `"format": "secret"`.
Secret = Annotated[str, msgspec.Meta(extra_json_schema={"format": "secret"})]


#: How many pieces to hold of each symbol.
Held = Annotated[Decimal, msgspec.Meta(description="pieces held of each symbol")]


class FieldError(NamedTuple):
    """One invalid parameter, for the `errors` list of the API."""

    field: str
    #: required, unknown_parameter, wrong_type, out_of_range, conflict, every_symbol, secret
    code: str
    message: str


class OrderIntent(NamedTuple):
    """An order that the strategy wants. The runtime checks limits and creates the order.

    market  fills at the open of the next bar of its symbol.
    limit   needs `limit_price`; fills there or better, at the first bar that reaches it.
    stop    needs `stop_price`; fills there or worse, at the first bar that reaches it.
    """

    symbol: str
    side: Literal["buy", "sell"]
    quantity: Decimal
    kind: OrderKind = "market"
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = "gtc"  #: gtc: until filled or cancelled; ioc: for one bar
    tag: str = ""  #: the strategy's own word for the order, up to 32 printable characters


class PlacedOrder(Protocol):
    """An order, named by seq and index: an `OpenOrder` or a `Report`."""

    @property
    def seq(self) -> int:
        """The seq of the event at which the order was decided."""

    @property
    def index(self) -> int:
        """Its number among the orders of that event, from 0."""


class CancelIntent(NamedTuple):
    """Cancel an open order. If it is not open any more, nothing happens."""

    order: PlacedOrder


class ReplaceIntent(NamedTuple):
    """Cancel an open order and place one with other values in its stead, under a new id.

    None keeps a value. If limits refuse the new order, or the old one is not open any more, nothing
    is cancelled.
    """

    order: PlacedOrder
    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None


Intent = OrderIntent | CancelIntent | ReplaceIntent


class Report(msgspec.Struct, frozen=True):
    """What happened to an order, for `on_report`. `seq` and `index` name the order."""

    kind: Literal["accepted", "filled", "rejected", "cancelled", "expired"]
    seq: int
    index: int
    symbol: str
    side: Literal["buy", "sell"]
    quantity: Decimal
    tag: str = ""
    price: Decimal | None = None  #: of a fill
    fee: Decimal | None = None  #: of a fill
    reason: str = ""  #: of a rejection, a cancellation or an expiry


class WarmUp(NamedTuple):
    """How much history a strategy wants before it decides."""

    events: int = 0  #: the newest ones of its symbols


class Context(Protocol):
    """The view of its portfolio that a strategy may read and must not change."""

    @property
    def symbols(self) -> frozenset[str] | None:
        """The portfolio's symbols; None means every symbol of the feed."""

    @property
    def cash(self) -> Decimal:
        """The cash, before open orders are paid."""

    @property
    def positions(self) -> Mapping[str, Position]:
        """The positions by symbol; symbols without a position are absent."""

    @property
    def open_orders(self) -> Sequence[OpenOrder]:
        """Orders that are not filled, cancelled or expired, in the order of their decisions."""

    @property
    def random(self) -> Random:
        """A generator seeded by (portfolio uid, seq): the same on every node and every replay."""

    def held(self, symbol: str) -> Decimal:
        """Return the quantity held of `symbol`; 0 if none, negative if short."""

    def has_open_order(self, symbol: str) -> bool:
        """Return whether an order of `symbol` still waits for its fill."""

    def set_timer(self, due: int) -> None:
        """Call `on_timer` before the first event that is released at or after `due`.

        `due` is a time of the feed in µs since the epoch, such as `event.released + 60_000_000`. A
        timer that is due already fires before the next event. Timers are part of the state: they
        survive restarts and moves. The same time set twice is one timer. Raise ValueError if more
        than 32 are set.
        """

    def metric(self, name: str, value: float) -> None:
        """Set the value of a metric, which is sampled and kept every 10 s of feed time.

        Names consist of small letters, digits and `_`, and begin with a letter. Raise ValueError
        for another name, for more than 32 metrics, and for a value that is not finite.
        """

    def log(self, text: object) -> None:
        """Print `text` to the portfolio's log. Never affects what the strategy decides."""


class NoParameters(msgspec.Struct, frozen=True):
    """Parameters of a strategy that has none."""


class Strategy:
    """Base of all strategies. One instance runs one portfolio under one revision.

    State is a dict of plain msgpack values (dict with text keys, list, str, int, float, bool,
    bytes, None; a Decimal as its text), mutated in place by `on_event`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  #: raise it when decisions change
    state_version: ClassVar[int] = 1  #: raise it when the shape of the state changes
    parameters_type: ClassVar[type[msgspec.Struct]] = NoParameters
    sees_every_symbol: ClassVar[bool] = False  #: True: a list of symbols is refused
    sees_every_event: ClassVar[bool] = False  #: True: also events without a price

    def __init__(self, parameters: Any) -> None:
        """Store the parameters, an instance of `parameters_type`. Called at every load."""
        self.parameters = parameters

    def initial(self) -> dict[str, Any]:
        """Return the state before the first event."""
        return {}

    def on_event(
        self, ctx: Context, state: dict[str, Any], event: Event
    ) -> Iterable[Intent] | None:
        """Return what is decided at this event: orders to place, cancel or replace, usually none.

        May change `state`.
        """
        raise NotImplementedError

    def on_bars(
        self, ctx: Context, state: dict[str, Any], bars: Mapping[str, Bar]
    ) -> Iterable[Intent] | None:
        """Return the orders decided once every symbol has its bar of one time. May change `state`.

        Called after `on_event` of the last of these bars. `bars` is in the order of the symbols.
        Not called for a time at which a symbol has no bar: a bar of a later time ends the wait.
        Called only if it is overridden, which needs a portfolio with a list of symbols.
        """
        return None

    def on_report(
        self, ctx: Context, state: dict[str, Any], report: Report
    ) -> Iterable[Intent] | None:
        """Return the orders decided because of what happened to an order. May change `state`.

        Fills and expiries are reported before `on_event` of the bar at which they happen, all
        others right after the decision. Not called unless it is overridden.
        """
        return None

    def on_timer(self, ctx: Context, state: dict[str, Any], due: int) -> Iterable[Intent] | None:
        """Return the orders decided because a timer is due. May change `state`.

        Called before the first event that is released at or after `due`, earliest timer first; a
        timer that is set meanwhile waits for the event after that. The strategy does not see the
        event yet, and an order decided here is filled at later events only.
        """
        return None

    def warm_up(self) -> WarmUp:
        """Return how many past events to show to `on_event` at first, to fill the state.

        Asked when the portfolio starts and when the state is adapted to another revision. Orders of
        these events are dropped. At most 20,000; the strategy sees fewer if the log has fewer.
        """
        return WarmUp()

    def adapt(self, old: StrategyPart) -> dict[str, Any] | None:
        """Return the state converted from another revision's part, or None to start empty.

        Called if strategy, state version or parameters differ. The default keeps the state of the
        same strategy and state version. If None is returned, the new state is warmed up. A method
        that is defined as `adapt(self, old, history)` also gets the events that `warm_up` asks for,
        and the state that it returns is not warmed up.
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
        """Return all errors of the parameters. Does not check whether the symbols exist."""
        errors = list(cls._field_errors(parameters))
        if not errors:
            errors = list(cls.check(cls.convert(parameters), symbols))
        if cls.sees_every_symbol:
            errors += every_symbol_errors(cls.name, symbols)
        elif acts_on_bars(cls) and (not symbols or "*" in symbols):
            errors.append(
                FieldError(
                    "symbols",
                    "required",
                    _(
                        "{strategy} acts once all its symbols have a bar: list the symbols.",
                        strategy=cls.name,
                    ),
                )
            )
        return errors

    @classmethod
    def check(cls, parameters: Any, symbols: Sequence[str]) -> Iterable[FieldError]:
        """Return errors that types and bounds cannot tell; called if those are met. Override it."""
        return ()

    @classmethod
    def convert(cls, parameters: Mapping[str, Any]) -> msgspec.Struct:
        """Return the parameters as a `parameters_type`.

        Raise msgspec.ValidationError if a name, a type or a range does not fit.
        """
        return msgspec.convert(dict(parameters), cls.parameters_type)

    @classmethod
    def _field_errors(cls, parameters: Mapping[str, Any]) -> Iterable[FieldError]:
        """Yield the errors of each parameter by itself."""
        fields = {field.name: field for field in msgspec.structs.fields(cls.parameters_type)}
        for name in sorted(set(map(str, parameters)) - set(fields)):
            yield FieldError(
                name,
                "unknown_parameter",
                _(
                    "{strategy} has no parameter {name}; it has: {names}.",
                    strategy=cls.name,
                    name=name,
                    names=sorted(fields) or _("none"),
                ),
            )
        for name, field in fields.items():
            if is_secret(field.type) and (field.required or name in parameters):
                yield secret_error(cls.name, name, required=field.required)
            elif name in parameters:
                yield from _value_errors(name, parameters[name], field.type)
            elif field.required:
                yield FieldError(
                    name,
                    "required",
                    _("{strategy} needs the parameter {name}.", strategy=cls.name, name=name),
                )


def acts_on_bars(strategy: type[Strategy]) -> bool:
    """Return whether the strategy waits for the bars of all its symbols. Pure."""
    return strategy.on_bars is not Strategy.on_bars


def is_secret(kind: Any) -> bool:
    """Return whether a field's type is `Secret`, or contains it at any depth. Pure."""
    return _has_secret(msgspec.json.schema(kind))


def _has_secret(schema: Any) -> bool:
    """Return whether a JSON schema, or any part of it, is that of a `Secret`."""
    if isinstance(schema, dict):
        return schema.get("format") == "secret" or any(map(_has_secret, schema.values()))
    return isinstance(schema, list) and any(map(_has_secret, schema))


def secret_error(strategy: str, name: str, *, required: bool) -> FieldError:
    """Return the error of a secret parameter that is given, or that the strategy requires."""
    message = _(
        "{name} is a secret, and every viewer can read a configuration: leave it "
        "out. Strategies get no secrets.",
        name=name,
    )
    if required:
        message = _(
            "{strategy} requires {name}, which is a secret, and strategies get none: "
            "give the field a default.",
            strategy=strategy,
            name=name,
        )
    return FieldError(name, "secret", message)


def _value_errors(name: str, value: Any, wanted: Any) -> Iterable[FieldError]:
    """Yield an error unless the value is of the type `wanted`, and in the range of that type."""
    try:
        converted = msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        text = str(error)  # with "got" or "Invalid" if the type is wrong, otherwise with the bound
        code = "wrong_type" if ", got `" in text or text.startswith("Invalid") else "out_of_range"
        yield FieldError(name, code, sentence_of_decoder(name, text, value))
        return
    if isinstance(converted, Decimal) and not converted.is_finite():
        yield FieldError(
            name,
            "out_of_range",
            _("{name}: {value} is not a finite number.", name=name, value=value),
        )
    elif isinstance(converted, Decimal) and not str(value).isascii():  # digits of another script
        yield FieldError(name, "wrong_type", sentence_of_decoder(name, NOT_A_DECIMAL, value))


def every_symbol_errors(strategy: str, symbols: Sequence[str]) -> Iterable[FieldError]:
    """Yield an error if symbols are listed for a strategy that sees every symbol."""
    if symbols and "*" not in symbols:
        message = _("{strategy} sees every symbol; leave symbols empty.", strategy=strategy)
        yield FieldError("symbols", "every_symbol", message)


def smaller_errors(name: str, value: Any, larger: str, limit: Any) -> Iterable[FieldError]:
    """Yield an error unless the parameter `name` is smaller than the parameter `larger`."""
    if value >= limit:
        message = _(
            "{name} ({value}) must be smaller than {larger} ({limit}).",
            name=name,
            value=value,
            larger=larger,
            limit=limit,
        )
        yield FieldError(name, "conflict", message)


def quantity_errors(name: str, quantity: Decimal) -> Iterable[FieldError]:
    """Yield the errors of a parameter that is an order quantity."""
    if not 0 < quantity <= MAX_QUANTITY:
        yield FieldError(
            name,
            "out_of_range",
            _(
                "{name} is {quantity}; give a quantity over 0, {max_quantity} at most.",
                name=name,
                quantity=quantity,
                max_quantity=MAX_QUANTITY,
            ),
        )
    elif quantity != quantity.quantize(Decimal("0.0001")):
        yield FieldError(
            name,
            "out_of_range",
            _("{name}: {quantity} has over four decimal places.", name=name, quantity=quantity),
        )
