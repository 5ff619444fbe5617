"""Figures and times as sentences show them, in every language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Params = Mapping[str, Any]
Sentence = Callable[[Params], str]


def number(value: float) -> str:
    """Return a number as shown on screens: 1,000 and 2.5, never 2.0."""
    value = round(value, 3)
    return f"{int(value):,}" if value == int(value) else f"{value:,}"


def tenths(value: float) -> str:
    """Return a number rounded to tenths, as PostgreSQL puts it into sentences: 30.4, 30, 1234.5."""
    return repr(round(float(value), 1)).removesuffix(".0")


def per_cent(before: float, after: float) -> str:
    """Return `82 → 61 %` of 82.3 and 60.8."""
    return f"{round(before)} → {round(after)} %"


def clock_time(iso: str) -> str:
    """Return `20:32:38 UTC` of `2026-03-02T20:32:38Z`."""
    return f"{iso[11:19]} UTC"


def duration(seconds: float, units: tuple[str, str, str, str]) -> str:
    """Return `5 s`, `12 min`, `3 h` or `4 days`, in the words of `units`.

    A larger unit is used from 2 of it on: after 119 s comes 2 min.
    """
    for limit, size, unit in zip((120, 7200, 172_800), (1, 60, 3600), units[:3], strict=True):
        if seconds < limit:
            return f"{number(int(max(seconds, 0) // size))} {unit}"
    return f"{number(int(seconds // 86_400))} {units[3]}"
