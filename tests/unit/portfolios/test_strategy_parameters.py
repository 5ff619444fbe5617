"""Bad parameters are refused with the field named; good ones pass."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from portfolios.strategies import registry
from portfolios.strategies.base import FieldError, Secret, Strategy, is_secret


@pytest.mark.parametrize("name", sorted(registry.BUILT_IN))
def test_default_parameters_of_each_built_in_strategy_are_valid(name: str) -> None:
    assert registry.get(name).validate({}, []) == []


@pytest.mark.parametrize(
    ("name", "parameters", "field", "code"),
    [
        ("sma_cross", {"fast": 2.5}, "fast", "wrong_type"),
        ("sma_cross", {"fast": True}, "fast", "wrong_type"),
        ("sma_cross", {"fast": None}, "fast", "wrong_type"),
        ("sma_cross", {"fast": 30, "slow": 30}, "fast", "conflict"),
        ("sma_cross", {"speed": 3}, "speed", "unknown_parameter"),
        ("sma_cross", {"quantity": "0"}, "quantity", "out_of_range"),
        ("sma_cross", {"quantity": "-1"}, "quantity", "out_of_range"),
        ("sma_cross", {"quantity": "0.00001"}, "quantity", "out_of_range"),
        ("sma_cross", {"quantity": "1e12"}, "quantity", "out_of_range"),
        ("sma_cross", {"quantity": "1e999999"}, "quantity", "out_of_range"),
        ("sma_cross", {"quantity": "1e-999999"}, "quantity", "out_of_range"),
        ("sma_cross", {"quantity": "NaN"}, "quantity", "out_of_range"),
        ("sma_cross", {"quantity": "much"}, "quantity", "wrong_type"),
        ("sma_cross", {"quantity": "٣"}, "quantity", "wrong_type"),
        ("mean_reversion", {"lookback": 1}, "lookback", "out_of_range"),
        ("mean_reversion", {"entry_z": float("nan")}, "entry_z", "out_of_range"),
        ("mean_reversion", {"exit_z": 2.0}, "exit_z", "conflict"),
        ("buy_and_hold", {"quantity": "1_000_000_001"}, "quantity", "out_of_range"),
        ("canary", {"loud": True}, "loud", "unknown_parameter"),
    ],
)
def test_a_wrong_parameter_is_named(
    name: str, parameters: dict[str, Any], field: str, code: str
) -> None:
    errors = registry.get(name).validate(parameters, [])
    assert [(error.field, error.code) for error in errors] == [(field, code)]
    assert errors[0].message.endswith(".")


@pytest.mark.parametrize(
    ("name", "parameters", "code", "sentence"),
    [
        ("sma_cross", {"fast": "ten"}, "wrong_type", "fast is 'ten'; give a whole number."),
        ("sma_cross", {"fast": 0}, "out_of_range", "fast is 0; give a whole number, 1 or more."),
        ("sma_cross", {"slow": 1001}, "out_of_range",
         "slow is 1001; give a whole number, 1000 or less."),
        ("sma_cross", {"quantity": []}, "wrong_type", "quantity is []; give a decimal number."),
        ("mean_reversion", {"entry_z": 0}, "out_of_range", "entry_z is 0; give a number, over 0."),
        ("mean_reversion", {"entry_z": "x" * 60}, "wrong_type",
         f"entry_z is '{'x' * 36}…; give a number."),
    ],
)  # fmt: skip
def test_error_about_a_wrong_value_says_in_plain_words_what_is_wanted(
    name: str, parameters: dict[str, Any], code: str, sentence: str
) -> None:
    (error,) = registry.get(name).validate(parameters, [])
    assert (error.code, error.message) == (code, sentence)


def test_every_wrong_parameter_is_named_at_once() -> None:
    errors = registry.get("sma_cross").validate({"fast": "x", "slow": 0, "speed": 1}, [])
    assert sorted(error.field for error in errors) == ["fast", "slow", "speed"]


def test_a_quantity_may_be_a_number_or_text() -> None:
    for quantity in (5, "5", 2.5, "2.5"):
        assert registry.get("buy_and_hold").validate({"quantity": quantity}, ["KO"]) == []


def test_the_canary_takes_no_symbols() -> None:
    canary = registry.get("canary")
    assert [e.field for e in canary.validate({}, ["KO"])] == ["symbols"]
    assert canary.validate({}, ["*"]) == []


def test_the_schema_names_the_parameters_with_their_ranges() -> None:
    properties = registry.get("sma_cross").schema()["$defs"]["SmaCrossParameters"]["properties"]
    limits = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10}
    assert properties["fast"] == {**limits, "description": "bars of the mean"}
    assert set(properties) == {"fast", "slow", "quantity"}


class _Nested(msgspec.Struct):
    key: Secret


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        *((kind, True) for kind in (Secret, Secret | None, list[Secret], _Nested)),
        (dict[str, _Nested], True),
        (str, False),
        (Literal["secret"], False),
    ],
)
def test_secret_fields_are_found_at_any_depth(kind: Any, secret: bool) -> None:
    assert is_secret(kind) is secret


def test_a_required_secret_tells_the_author_what_to_do() -> None:
    class Parameters(msgspec.Struct):
        key: Secret

    class Wanting(Strategy):
        name = "wanting"
        parameters_type = Parameters

    for given in ({}, {"key": "x"}):
        (error,) = Wanting.validate(given)
        assert error == FieldError(
            "key",
            "secret",
            "wanting requires key, which is a secret, and strategies get none: give the field a "
            "default.",
        )
