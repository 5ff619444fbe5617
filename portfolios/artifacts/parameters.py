"""Check parameters against the JSON schema that an inspection stored, running no foreign code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from portfolios.sentences import sentence as _
from portfolios.strategies.base import FieldError, secret_error
from portfolios.strategies.validation_messages import BOUNDS, KINDS, wrong_value

if TYPE_CHECKING:
    from jsonschema import ValidationError

#: Type in a JSON schema → key of `KINDS`, and bound in a JSON schema → key of `BOUNDS`.
_KINDS = {"integer": "int", "number": "float", "string": "str", "boolean": "bool"}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
#: Keywords of a JSON schema that refuse the type of a value; the others refuse its range.
_TYPE_KEYWORDS = {"type", "enum", "const", "anyOf"}


class SchemaUnusable(Exception):
    """Values cannot be checked against the schema. The text says why."""


def schema_errors(
    strategy: str, schema: Mapping[str, Any], parameters: Mapping[str, Any]
) -> list[FieldError]:
    """Return the errors of each parameter by itself, as `Strategy.validate` words them.

    Raise SchemaUnusable.
    """
    # jsonschema takes 0.1 s to import, and few processes ever check a parameter.
    from portfolios.artifacts.schema_validator import errors_by_relevance

    parameters = {str(name): value for name, value in parameters.items()}
    known = properties(schema)
    errors = []
    for name in sorted(set(parameters) - set(known)):
        message = _(
            "{strategy} has no parameter {name}; it has: {names}.",
            strategy=strategy,
            name=name,
            names=sorted(known) or _("none"),
        )
        errors.append(FieldError(name, "unknown_parameter", message))
    required = resolve(schema, schema).get("required", [])
    secrets = {name for name, part in known.items() if _has_secret(schema, part)}
    for name in sorted(secrets.intersection({*parameters, *required})):
        errors.append(secret_error(strategy, name, required=name in required))
    for name in required:
        if name not in parameters and name not in secrets:
            errors.append(
                FieldError(
                    name,
                    "required",
                    _("{strategy} needs the parameter {name}.", strategy=strategy, name=name),
                )
            )
    # Errors of names and secrets are reported above.
    given = {n: value for n, value in parameters.items() if n in known and n not in secrets}
    found: dict[str, ValidationError] = {}
    for error in errors_by_relevance(schema, given):  # the most relevant of each parameter
        found.setdefault(str(error.absolute_path[0]), error)
    for name, error in found.items():
        code = "wrong_type" if error.validator in _TYPE_KEYWORDS else "out_of_range"
        errors.append(FieldError(name, code, _sentence(name, error)))
    return errors


def properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters of a schema by name, each with its own schema."""
    found: Mapping[str, Any] = resolve(schema, schema).get("properties", {})
    return found


def is_required(schema: Mapping[str, Any], name: str) -> bool:
    """Return whether the parameter has no default."""
    required = resolve(schema, schema).get("required", [])
    return isinstance(required, list) and name in required


def resolve(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of the schema that `part` refers to, or `part` itself.

    msgspec puts even the whole schema, that of the object of parameters, behind a reference.
    """
    name = str(part.get("$ref", "")).removeprefix("#/$defs/")
    found: Any = schema.get("$defs", {}).get(name, part) if name else part
    return found if isinstance(found, Mapping) else part


def _has_secret(schema: Mapping[str, Any], part: Any) -> bool:
    """Return whether a part of the schema is, contains or refers to a secret. Pure."""
    left, seen = [part], set()  # each reference is followed once
    while left:
        each = left.pop()
        if isinstance(each, list):
            left += each
        elif isinstance(each, Mapping):
            if each.get("format") == "secret":
                return True
            left += each.values()
            reference = str(each.get("$ref", ""))
            if reference and reference not in seen:
                seen.add(reference)
                left.append(schema.get("$defs", {}).get(reference.removeprefix("#/$defs/")))
    return False


def has_pattern(schema: Any) -> bool:
    """Return whether a part of the schema has a regular expression.

    Such a pattern is matched in the strategy's own process only: a match may take exponential time,
    which would block a web process.
    """
    if isinstance(schema, Mapping):
        patterns = schema.keys() & {"pattern", "patternProperties"}
        return bool(patterns) or any(map(has_pattern, schema.values()))
    return isinstance(schema, list) and any(map(has_pattern, schema))


def _sentence(name: str, error: ValidationError) -> str:
    """Return what the validator found wrong with the parameter `name`, as a sentence."""
    where = name + "".join(f".{part}" for part in list(error.absolute_path)[1:])
    wanted: Any = error.validator_value  # what the keyword states: a bound, values or schemas
    if error.validator in _BOUNDS:
        limits = BOUNDS[_BOUNDS[error.validator]](wanted)
        return wrong_value(where, error.instance, [KINDS["float"]], limits)
    if error.validator == "enum":
        choices = _("one of {names}", names=list(map(str, wanted)))
        return wrong_value(where, error.instance, [choices])
    alternatives = {"type": [error.schema], "anyOf": wanted}.get(str(error.validator), [])
    kinds = [kind for schema in alternatives for kind in _kinds_of_values(schema)]
    if kinds:
        return wrong_value(where, error.instance, kinds)
    return f"{where}: {error.message[:300]}."


def _kinds_of_values(schema: Any) -> list[str]:
    """Return what a JSON schema accepts, in words: `a whole number`."""
    if not isinstance(schema, Mapping):
        return []
    if schema.get("format") == "decimal":
        return [KINDS["decimal"]]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return [KINDS.get(_KINDS.get(kind, kind), kind) for kind in kinds]
