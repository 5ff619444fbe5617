"""Parameters of an artifact's strategy, checked by its stored schema as its own code would."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from portfolios.artifacts.parameters import SchemaUnusable, has_pattern, schema_errors
from portfolios.strategies.base import Secret, Strategy


class Inner(msgspec.Struct):
    share: float


class Parameters(msgspec.Struct):
    count: int
    quantity: Decimal = Decimal(10)
    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    label: str = ""
    exact: bool = False
    limit: int | None = None
    mode: Literal["fast", "slow"] = "fast"
    parts: list[Inner] = []


class Probe(Strategy):
    name = "probe"
    parameters_type = Parameters


SCHEMA = msgspec.json.decode(msgspec.json.encode(Probe.schema()))


@pytest.mark.parametrize(
    "parameters",
    [
        {"count": 1},
        {"count": 1, "quantity": "2.5", "ratio": 1, "limit": None, "mode": "slow"},
        {"count": 1, "quantity": 3, "parts": [{"share": 1}]},
        {},
        *({"count": count} for count in ("1", True, 1.5)),
        *({"count": 1, "quantity": quantity} for quantity in (0.5, "much", "NaN", True)),
        *({"count": 1, "ratio": ratio} for ratio in (0, 1.5)),
        {"count": 1, "limit": "none"}, {"count": 1, "exact": 1}, {"count": 1, "mode": "medium"},
        {"count": 1, "parts": [{"share": "x"}]}, {"count": 1, "other": 2},
        {"count": "x", "label": 3, "nothing": 1},
    ],
)  # fmt: skip
def test_schema_finds_the_fields_that_the_strategy_itself_finds(parameters: dict[str, Any]) -> None:
    own = {error.field for error in Probe.validate(parameters)}
    assert {error.field for error in schema_errors("probe", SCHEMA, parameters)} == own


def test_schema_error_names_the_value_and_what_is_wanted() -> None:
    messages = {
        error.field: error.message
        for error in schema_errors("probe", SCHEMA, {"quantity": "much", "ratio": 3, "no": 1})
    }
    assert messages == {
        "count": "probe needs the parameter count.",
        "quantity": "quantity is 'much'; give a decimal number.",
        "ratio": "ratio is 3; give a number, 1 or less.",
        "no": "probe has no parameter no; it has: count, exact, label, limit, mode, parts, "
        "quantity, ratio.",
    }


def test_schema_check_leaves_regular_expressions_to_the_strategy() -> None:
    """One that takes exponential time would hold up the web process."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(a+)+$"}}}
    assert has_pattern(schema)
    assert not has_pattern(SCHEMA)
    assert schema_errors("probe", schema, {"a": "a" * 60 + "b"}) == []


def test_schema_check_never_fetches_references() -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/schema"}}}
    with pytest.raises(Exception, match="Unresolvable"):
        schema_errors("probe", schema, {"a": 1})


class Account(msgspec.Struct):
    key: Secret = ""


class WithSecrets(msgspec.Struct):
    token: Secret
    account: Account | None = None
    size: int = 1


class Leaky(Strategy):
    name = "leaky"
    parameters_type = WithSecrets


@pytest.mark.parametrize(
    "parameters", [{}, {"token": "x"}, {"account": {"key": "x"}}, {"size": 2, "account": None}]
)
def test_parameter_schema_refuses_secret_fields_with_the_same_errors_as_the_strategy(
    parameters: dict[str, Any],
) -> None:
    schema = msgspec.json.decode(msgspec.json.encode(Leaky.schema()))
    own = sorted((e.field, e.code) for e in Leaky.validate(parameters))
    assert sorted((e.field, e.code) for e in schema_errors("leaky", schema, parameters)) == own
    assert ("token", "secret") in own


def doubling(levels: int) -> dict[str, Any]:
    parts = {f"x{at}": {"anyOf": [{"$ref": f"#/$defs/x{at + 1}"}] * 2} for at in range(levels)}
    return parts | {f"x{levels}": {"type": "integer"}}


@pytest.mark.parametrize(
    ("part", "more", "why"),
    [
        ({"$ref": "#/$defs/x0"}, doubling(30), "comparisons"),
        ({"$ref": "#/$defs/x"}, {"x": {"allOf": [{"$ref": "#/$defs/x"}]}}, "refers to itself"),
        ({"$ref": "http://127.0.0.1:9/x"}, {}, "to nothing"),
        ({"$ref": "#/$defs/absent"}, {}, "to nothing"),
    ],
)
def test_schema_that_cannot_be_checked_in_bounded_time_is_unusable(
    monkeypatch: pytest.MonkeyPatch, part: dict[str, Any], more: dict[str, Any], why: str
) -> None:
    monkeypatch.setattr("portfolios.artifacts.schema_validator.MAX_STEPS", 500)
    top = {"type": "object", "properties": {"a": part}}
    with pytest.raises(SchemaUnusable, match=why):
        schema_errors("hostile", {"$ref": "#/$defs/P", "$defs": {"P": top, **more}}, {"a": "b"})


def test_error_of_a_whole_list_is_named_before_those_of_its_items() -> None:
    sizes = {"type": "array", "minItems": 2, "items": {"type": "integer"}}
    schema = {"type": "object", "properties": {"sizes": sizes}}
    (error,) = schema_errors("any", schema, {"sizes": ["x"]})
    assert (error.field, error.code) == ("sizes", "out_of_range")


def test_schema_that_accepts_anything_gives_no_errors() -> None:
    assert schema_errors("any", {"$ref": "#/$defs/P", "$defs": {"P": True}}, {}) == []
