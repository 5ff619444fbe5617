"""Validate the configuration of a portfolio. Every interface calls this before it writes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from portfolios import strategy_inspection
from portfolios.feed_registration import feed_symbols
from portfolios.feeds import UnknownFeed
from portfolios.sentences import sentence as _
from portfolios.sentences import short_repr
from portfolios.strategies import registry
from portfolios.strategies.base import FieldError
from portfolios.strategies.validation_messages import BOUNDS, KINDS, wrong_value
from portfolios.text import error, exact_decimal, quoted, unprintable_errors

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,78}[a-z0-9])?")
LIMIT_QUANTITIES = ("largest_order", "largest_position", "largest_notional", "largest_drawdown_pct")
LIMIT_COUNTS = ("orders_per_minute",)
BROKER_AMOUNTS = ("fee_per_order", "fee_per_share", "fee_bps", "slippage_bps", "tick_size")
BROKER_COUNTS = ("slippage_ticks",)
MAX_BROKER_AMOUNT = Decimal(10_000)  #: in bps, that is the whole price
MAX_COUNT = 1_000_000  #: of a limit that is a whole number
LIMIT_FLAGS = ("allow_short", "allow_negative_cash")
MAX_CASH = Decimal(10) ** 15
CASH_PLACES = 4  #: with which amounts are stored

Error = dict[str, str]
#: (strategy, parameters, symbols, artifact) → errors
ParameterCheck = Callable[[str, Mapping[str, Any], Sequence[str], str | None], Sequence[FieldError]]


def name_errors(name: Any) -> list[Error]:
    """Return the errors of a portfolio name."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return []
    return [
        error(
            "name",
            "not_a_slug",
            _(
                "{name} is not a valid name: use small letters, digits and inner hyphens, 80 "
                "at most, such as energy-revert.",
                name=quoted(name),
            ),
        )
    ]


def configuration_errors(
    strategy: Any,
    config: Any,
    symbols: Any,
    limits: Any,
    artifact: str | None = None,
    feed: str | None = None,
    check: ParameterCheck = strategy_inspection.parameter_errors,
) -> list[Error]:
    """Return all errors of a configuration, each with its field.

    `artifact` is the complete hash of a stored one, or None for a strategy of the release.
    `check` returns the errors of parameters.
    """
    errors = symbols_errors(symbols, feed)
    errors += limits_errors(limits)
    errors += unprintable_errors("config", config)
    if not isinstance(config, Mapping):
        message = wrong_value("config", config, [KINDS["object"]])
        return [*errors, error("config", "wrong_type", message)]
    if not isinstance(strategy, str):
        message = wrong_value("strategy", strategy, [KINDS["str"]])
        return [*errors, error("strategy", "wrong_type", message)]
    try:
        found = check(strategy, config, _only_texts(symbols), artifact)
    except registry.UnknownStrategy as unknown:
        return [
            *errors,
            error("strategy", "unknown_strategy", _("{unknown}.", unknown=str(unknown))),
        ]
    except strategy_inspection.CheckFailed as failed:
        return [*errors, error("config", "check_failed", str(failed))]
    for wrong in found:
        field = wrong.field if wrong.field == "symbols" else f"config.{wrong.field}"
        errors.append(error(field, wrong.code, wrong.message))
    return errors


def _only_texts(symbols: Any) -> list[str]:
    """Return the symbols that are texts; `symbols_errors` reports the others."""
    return [each for each in symbols if isinstance(each, str)] if isinstance(symbols, list) else []


def missing_symbols_errors(strategy: Any, symbols: Any, artifact: str | None = None) -> list[Error]:
    """Return an error for a new portfolio without symbols.

    A forgotten list would trade the whole feed. Only a strategy that declares `sees_every_symbol`
    may omit it.
    """
    if symbols or not isinstance(symbols, Sequence) or not isinstance(strategy, str):
        return []
    try:
        found = strategy_inspection.facts(strategy, artifact)
    except (registry.UnknownStrategy, strategy_inspection.CheckFailed):
        return []  # already reported
    return [] if found.sees_every_symbol else [no_symbols_error(strategy)]


def no_symbols_error(strategy: str) -> Error:
    """Return the error of a strategy that needs a list of symbols and was given none."""
    return error(
        "symbols",
        "required",
        _(
            "{strategy} trades the symbols it is given and was given none: list them, "
            'such as ["IBM", "XOM"], or give ["*"] for every symbol of the feed.',
            strategy=strategy,
        ),
    )


def feed_errors(feed: Any) -> list[Error]:
    """Return the errors of the name of a feed; empty means the packaged bars."""
    try:
        if feed:
            feed_symbols(str(feed))
    except UnknownFeed:
        message = _(
            "There is no feed named {feed}; `manage.py feed list` shows them.", feed=quoted(feed)
        )
        return [error("feed", "unknown_feed", message)]
    return []


def symbols_errors(symbols: Any, feed: str | None = None) -> list[Error]:
    """Return the errors of a list of symbols. Empty means every symbol."""
    is_list = isinstance(symbols, Sequence) and not isinstance(symbols, str)
    if not is_list or not all(isinstance(symbol, str) for symbol in symbols):
        message = wrong_value("symbols", symbols, [_("a list of texts")])
        return [error("symbols", "wrong_type", message)]
    known = feed_symbols(feed)
    unknown = sorted({s for s in symbols if s not in known and s != "*"})
    if unknown:
        return [
            error(
                "symbols",
                "unknown_symbol",
                _(
                    "The feed has no {unknown}; it has {number} symbols, such as {known}.",
                    unknown=unknown[:10],
                    number=len(known),
                    known=sorted(known)[:3],
                ),
            )
        ]
    if twice := [symbol for symbol, times in Counter(symbols).items() if times > 1]:
        return [error("symbols", "twice", _("Listed more than once: {twice}.", twice=twice[:10]))]
    return []


def limits_errors(limits: Any) -> list[Error]:
    """Return the errors of a portfolio's limits."""
    if not isinstance(limits, Mapping):
        return [error("limits", "wrong_type", wrong_value("limits", limits, [KINDS["object"]]))]
    errors: list[Error] = []
    for name, value in limits.items():
        field = f"limits.{name}"
        if name == "broker":
            errors += broker_errors(value)
        elif name in LIMIT_FLAGS:
            if not isinstance(value, bool):
                errors.append(error(field, "wrong_type", wrong_value(name, value, [KINDS["bool"]])))
        elif name not in (*LIMIT_QUANTITIES, *LIMIT_COUNTS):
            known = (*LIMIT_QUANTITIES, *LIMIT_COUNTS, *LIMIT_FLAGS, "broker")
            message = _("There is no limit {name}; there are {known}.", name=name, known=known)
            errors.append(error(field, "unknown_limit", message))
        elif value is None:
            continue  # no limit
        elif name in LIMIT_COUNTS:
            errors += _count_errors("limits", name, value, 1)
        elif (quantity := exact_decimal(value)) is None:
            message = _("{name} is {value}; give a quantity.", name=name, value=short_repr(value))
            errors.append(error(field, "wrong_type", message))
        elif quantity <= 0:
            message = _("{name} is {value}; it must be over 0.", name=name, value=value)
            errors.append(error(field, "out_of_range", message))
    return errors


def broker_errors(broker: Any) -> list[Error]:
    """Return the errors of `limits.broker`, the settings of the paper broker."""
    if not isinstance(broker, Mapping):
        message = wrong_value("broker", broker, [KINDS["object"]])
        return [error("limits.broker", "wrong_type", message)]
    errors: list[Error] = []
    for name, value in broker.items():
        field = f"limits.broker.{name}"
        if name in BROKER_COUNTS:
            errors += _count_errors("limits.broker", name, value, 0)
        elif name not in BROKER_AMOUNTS:
            known = (*BROKER_AMOUNTS, *BROKER_COUNTS)
            message = _("broker has no setting {name}; it has {known}.", name=name, known=known)
            errors.append(error(field, "unknown_setting", message))
        elif (amount := exact_decimal(value)) is None:
            errors.append(error(field, "wrong_type", wrong_value(name, value, [KINDS["float"]])))
        elif not 0 <= amount <= MAX_BROKER_AMOUNT or (name == "tick_size" and not amount):
            least = BOUNDS[">" if name == "tick_size" else ">="](0)
            message = _(
                "{name} is {value}; it must be {least}, {max_broker_amount:,f} at most.",
                name=name,
                value=value,
                least=least,
                max_broker_amount=MAX_BROKER_AMOUNT,
            )
            errors.append(error(field, "out_of_range", message))
    return errors


def _count_errors(path: str, name: str, value: Any, least: int) -> list[Error]:
    """Return an error unless the value is a whole number from `least` to MAX_COUNT."""
    field = f"{path}.{name}"
    if not isinstance(value, int) or isinstance(value, bool):
        return [error(field, "wrong_type", wrong_value(name, value, [KINDS["int"]]))]
    if not least <= value <= MAX_COUNT:
        message = _(
            "{name} is {value}; it must be {least} to {max_count:,}.",
            name=name,
            value=value,
            least=least,
            max_count=MAX_COUNT,
        )
        return [error(field, "out_of_range", message)]
    return []


def cash_errors(cash: Any) -> list[Error]:
    """Return the errors of a starting cash."""
    value = exact_decimal(cash)
    if value is None or not 0 < value <= MAX_CASH:
        return [
            error(
                "starting_cash",
                "out_of_range",
                _(
                    "starting_cash is {cash}; give an amount over 0, {max_cash:,f} at most.",
                    cash=str(cash),
                    max_cash=MAX_CASH,
                ),
            )
        ]
    if value != round(value, CASH_PLACES):
        message = _("starting_cash is {cash}; give four decimal places at most.", cash=str(cash))
        return [error("starting_cash", "places", message)]
    return []
