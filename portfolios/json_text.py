"""Read JSON that people, files and markets give."""

from __future__ import annotations

import json
from typing import Any

#: Deeper nesting has no use, and each level costs a stack frame wherever it is walked.
MAX_DEPTH = 32


def read_json(text: str | bytes, **options: Any) -> Any:
    """Return the value of a JSON text; `options` are those of `json.loads`.

    Raise ValueError, a JSONDecodeError unless bytes are not UTF-8. It also stands for the
    RecursionError of a text of thousands of brackets.
    """
    try:
        value = json.loads(text, **options)
    except RecursionError:
        pass
    else:
        level = [value]
        for _ in range(MAX_DEPTH + 1):
            lists = [one for one in level if isinstance(one, list)]
            lists += [list(one.values()) for one in level if isinstance(one, dict)]
            level = [inner for one in lists for inner in one]
            if not level:
                return value
    raise json.JSONDecodeError(f"Nested deeper than {MAX_DEPTH} levels", "", 0)
