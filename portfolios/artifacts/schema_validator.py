"""A JSON schema validator with a limit of steps, for which a decimal may also be a number."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import relevance
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from portfolios.artifacts.parameters import SchemaUnusable
from portfolios.text import exact_decimal

#: Limit of one validation. A schema of thirty levels, each of which refers twice to the next one,
#: would need 2^30 steps.
MAX_STEPS = 50_000
_steps = threading.local()  #: `left`: steps that the validation of this thread may still take


def errors_by_relevance(
    schema: Mapping[str, Any], given: Mapping[str, Any]
) -> list[ValidationError]:
    """Return the errors in the values of the parameters `given`, the most relevant first.

    Errors of the whole, such as a missing parameter, are left out. Raise SchemaUnusable if the
    schema cannot be followed to its end.
    """
    _steps.left = MAX_STEPS
    # An empty registry: references are looked up in the schema, never fetched.
    validator = _Validator(dict(schema), registry=Registry())
    try:
        found = [error for error in validator.iter_errors(given) if error.absolute_path]
        return sorted(found, key=relevance, reverse=True)
    except (RecursionError, Unresolvable) as failed:
        raise SchemaUnusable(f"its schema refers to itself or to nothing: {failed}") from None


def _check_type(validator: Any, kinds: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    """Check the keyword `type`. A decimal may be a number too, although its schema says text."""
    if schema.get("format") != "decimal":
        yield from Draft202012Validator.VALIDATORS["type"](validator, kinds, value, schema)
    elif exact_decimal(value) is None:
        yield ValidationError(f"{value!r} is not a decimal number")


def _accept_anything(*_: Any) -> Iterator[Any]:
    """Yield no error: in place of a check that is left out."""
    return iter(())


def _limit_steps(check: Any) -> Any:
    """Return `check`, made to raise SchemaUnusable after MAX_STEPS steps of one validation."""

    def limited(*given: Any) -> Iterator[Any]:
        _steps.left -= 1
        if _steps.left < 0:
            raise SchemaUnusable(
                f"its schema needs more than {MAX_STEPS:,} comparisons, which is the limit: "
                "nest fewer types in the parameters"
            )
        yield from check(*given) or ()  # a check without errors may return None

    return limited


#: Patterns are left to the strategy's own process (`has_pattern`). `uniqueItems` takes quadratic
#: time, and msgspec never writes it.
_CHECKS = {
    **Draft202012Validator.VALIDATORS,
    "type": _check_type,
    "pattern": _accept_anything,
    "patternProperties": _accept_anything,
    "uniqueItems": _accept_anything,
}
_Validator = extend(
    Draft202012Validator, {keyword: _limit_steps(check) for keyword, check in _CHECKS.items()}
)
