"""Read JSON that people, files and markets give."""

from __future__ import annotations

import json
from typing import Any

#: Deeper nesting has no use, and each level costs a stack frame wherever it is walked.
MAX_DEPTH = 32
_NESTED = (list, dict)  # a tuple: `isinstance` takes three times as long with `list | dict`


def read_json(text: str | bytes, **options: Any) -> Any:
    """Return the value of a JSON text; `options` are those of `json.loads`.

    Raise ValueError: a JSONDecodeError, or a UnicodeDecodeError for bytes that are not UTF-8. A
    text of thousands of brackets, for which `json` raises RecursionError, is refused likewise.
    """
    try:
        value = json.loads(text, **options)
    except RecursionError:
        pass
    else:
        # To count the brackets of a market's message takes less time than to walk its values.
        if _brackets(text) <= MAX_DEPTH or not _is_deeper(value, MAX_DEPTH):
            return value
    raise json.JSONDecodeError(f"Nested deeper than {MAX_DEPTH} levels", "", 0)


def _brackets(text: str | bytes) -> int:
    """Return how many brackets open in the text, those in its strings included."""
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def _is_deeper(value: Any, levels: int) -> bool:
    """Return whether lists and objects are nested over `levels` levels deep, `value` counted."""
    if isinstance(value, _NESTED):
        if levels == 0:
            return True
        for each in value.values() if isinstance(value, dict) else value:
            # Checked here too: most values are not nested, and a call for each takes time.
            if isinstance(each, _NESTED) and _is_deeper(each, levels - 1):
                return True
    return False
