"""What the sentences of all languages are made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Params = Mapping[str, Any]
Sentence = Callable[[Params], str]


def number(value: float) -> str:
    """Return a number as screens show it: 1,000 and 2.5, never 2.0."""
    return f"{int(value):,}" if value == int(value) else f"{round(value, 3):,}"
