"""A validator of JSON schemas that ends whatever the schema is, and knows decimals."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import relevance
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from portfolios.artifacts.parameters import SchemaUnusable

#: Of one check. Parts that refer to each other twice, thirty levels deep, would need 2^30.
MAX_STEPS = 50_000
_steps = threading.local()


def most_relevant_first(
    schema: Mapping[str, Any], given: Mapping[str, Any]
) -> list[ValidationError]:
    """Return the errors of each parameter by itself. Raise SchemaUnusable."""
    _steps.left = MAX_STEPS
    # An empty registry: references are looked up in the schema, never fetched.
    validator = _Validator(dict(schema), registry=Registry())
    try:
        found = [error for error in validator.iter_errors(given) if error.absolute_path]
        return sorted(found, key=relevance)
    except (RecursionError, Unresolvable) as failed:
        raise SchemaUnusable(f"its schema refers to itself or to nothing: {failed}") from None


def _type(validator: Any, kinds: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    """A decimal may be given as a number too, as in a strategy of the release."""
    if schema.get("format") != "decimal":
        yield from Draft202012Validator.VALIDATORS["type"](validator, kinds, value, schema)
    elif not _is_decimal(value):
        yield ValidationError(f"{value!r} is not a decimal number")


def _is_decimal(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return False
    try:
        return Decimal(str(value)).is_finite() and str(value).isascii()
    except InvalidOperation:
        return False


def _accept_anything(*_: Any) -> Iterator[Any]:
    return iter(())


def _counted(check: Any) -> Any:
    def counted(*given: Any) -> Iterator[Any]:
        _steps.left -= 1
        if _steps.left < 0:
            raise SchemaUnusable(f"its schema needs over {MAX_STEPS:,} comparisons for them")
        yield from check(*given) or ()

    return counted


#: `uniqueItems` takes quadratic time; msgspec never writes it.
_CHECKS = {
    **Draft202012Validator.VALIDATORS,
    "type": _type,
    "pattern": _accept_anything,
    "patternProperties": _accept_anything,
    "uniqueItems": _accept_anything,
}
_Validator = extend(
    Draft202012Validator, {keyword: _counted(check) for keyword, check in _CHECKS.items()}
)
