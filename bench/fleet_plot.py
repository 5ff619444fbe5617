"""The plot of bin/bench fleet: how long a loss takes, by the size of the fleet."""

from __future__ import annotations

import math
from typing import Any

STEPS = {
    "mark to plan": "#7fc8a4",
    "mark to all requested": "#0b7a4b",
    "mark to all granted": "#2a5d9c",
    "mark to all committed elsewhere": "#9a9a9a",
}
LEFT, WIDE = 220, 520


def as_svg(rows: list[dict[str, Any]]) -> str:
    """Return four bars a size on a logarithmic scale, 10 ms to 100 s, each with its worst."""
    paths = list(dict.fromkeys(each["path"] for each in rows))
    parts = [_scale(70 + len(paths) * 64)]
    for number, path in enumerate(paths):
        top = 60 + number * 64
        parts.append(f'<text x="{LEFT - 8}" y="{top + 26}" text-anchor="end">{path}</text>')
        for offset, (name, color) in enumerate(STEPS.items()):
            for each in rows:
                if (each["path"], each["name"]) == (path, name):
                    parts.append(_bar(top + offset * 13, each, color))
    key = "".join(
        f'<rect x="{12 + n * 210}" y="30" width="11" height="11" fill="{color}"/>'
        f'<text x="{28 + n * 210}" y="40">{name}</text>'
        for n, (name, color) in enumerate(STEPS.items())
    )
    height = 90 + len(paths) * 64
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="880" height="{height}"'
        ' font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
        '<text x="12" y="20" font-size="14">One node lost: seconds from the mark, median and '
        f"worst, logarithmic</text>{key}{''.join(parts)}</svg>\n"
    )


def _x(seconds: float) -> float:
    return LEFT + WIDE * (math.log10(min(max(seconds, 0.01), 100)) + 2) / 4


def _bar(top: float, each: dict[str, Any], color: str) -> str:
    median, worst = each["value"], each["spread"][1]
    return (
        f'<rect x="{LEFT}" y="{top}" width="{max(_x(median) - LEFT, 2):.1f}" height="11"'
        f' fill="{color}"/><line x1="{_x(median):.1f}" x2="{_x(worst):.1f}" y1="{top + 5.5}"'
        f' y2="{top + 5.5}" stroke="{color}"/>'
        f'<text x="{_x(worst) + 5:.1f}" y="{top + 10}">{median:.2f} s, worst {worst:.2f}</text>'
    )


def _scale(bottom: float) -> str:
    return "".join(
        f'<line x1="{_x(s):.1f}" x2="{_x(s):.1f}" y1="54" y2="{bottom}" stroke="#ddd"/>'
        f'<text x="{_x(s):.1f}" y="{bottom + 12}" text-anchor="middle">{s:g} s</text>'
        for s in (0.01, 0.1, 1, 10, 100)
    )
