"""Parse request bodies: unambiguous JSON of at most 1 MB that PostgreSQL can store."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from portfolios.json_text import MAX_DEPTH


class StrictJSONParser(BaseParser):
    """Refuse bodies that would be misread later, such as repeated names, NaN or lone surrogates."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the parsed body. Raise RequestDataTooBig or ParseError with a sentence."""
        body = read_at_most(stream, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        try:
            value = json.loads(
                body.decode("utf-8"),
                parse_constant=_refuse_constant,
                object_pairs_hook=_unique_names,
            )
        except UnicodeDecodeError:
            raise ParseError("The body is not UTF-8 text.") from None
        except RecursionError:
            raise ParseError(f"The body is nested deeper than {MAX_DEPTH} levels.") from None
        except ValueError as error:
            raise ParseError(f"The body cannot be read as JSON: {error}.") from None
        _refuse_unstorable(value, depth=0)
        return value


def read_at_most(stream: IO[bytes], limit: int) -> bytes:
    """Return the body. Raise RequestDataTooBig if it has more than `limit` bytes."""
    # Read one byte more than allowed: the declared length may be missing or wrong.
    body = stream.read(limit + 1)
    if len(body) > limit:
        raise RequestDataTooBig(f"The body is larger than {limit:,} bytes.")
    return body


def _refuse_constant(text: str) -> Any:
    """Refuse NaN and Infinity, which Python's parser accepts."""
    raise ValueError(f"{text} is not a JSON number")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the JSON object of `pairs`. Raise ValueError for a repeated name: it is ambiguous."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:80]!r} is given twice")
        found[name] = value
    return found


def _refuse_unstorable(value: Any, depth: int) -> None:
    """Raise ParseError for values that JSON allows but the database or a decimal cannot hold."""
    if depth > MAX_DEPTH:
        raise ParseError(f"The body is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, str):
        if "\x00" in value:
            raise ParseError("The body holds a NUL character, which the database cannot store.")
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ParseError("The body holds a lone surrogate, which no text can contain.")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ParseError("The body holds a number beyond 1.8e308; send a smaller one.")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unstorable(key, depth + 1)
            _refuse_unstorable(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _refuse_unstorable(inner, depth + 1)
