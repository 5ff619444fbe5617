"""The figures of bin/bench planner: one JSON row each, a table of them, and a plot of the times."""

from __future__ import annotations

import math
from typing import Any


def row(
    path: str,
    name: str,
    value: float,
    unit: str,
    *,
    spread: Any = None,
    against: Any = None,
    target: str = "",
    met: bool | None = None,
    note: str = "",
) -> dict[str, Any]:
    """Return one figure; `ratio` is how many times `against` it is."""
    ratio = round(value / against, 4) if isinstance(against, (int, float)) and against else None
    found = {
        "path": path,
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "spread": spread,
        "against": round(against, 3) if isinstance(against, float) else against,
        "ratio": ratio,
        "target": target,
        "met": met,
    }
    return {**found, "note": note} if note else found


def as_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [f"{'path':58} {'figure':46} {'value':>12} {'against':>12}  met"]
    for each in rows:
        met = {True: "yes", False: "NO", None: "-"}[each["met"]]
        value = f"{each['value']:g} {each['unit']}"
        against = "-" if each["against"] is None else f"{each['against']:g}"
        lines.append(f"{each['path']:58} {each['name']:46} {value:>12} {against:>12}  {met}")
        if each.get("note"):
            lines.append(f"    {each['note']}")
    return "\n".join(lines) + "\n"


def as_svg(rows: list[dict[str, Any]]) -> str:
    """Return the plan times as bars on a logarithmic scale, ours and kafka-python's."""
    bars = [each for each in rows if each["name"] == "plan" and "optimum" not in each["path"]]
    parts, left, wide = [], 220, 520

    def width(ms: float) -> float:
        return max(2.0, wide * (math.log10(max(ms, 0.01)) + 2) / 8)  # 0.01 ms to 1,000 s

    for number, each in enumerate(bars):
        top = 40 + number * 34
        parts.append(f'<text x="{left - 8}" y="{top + 16}" text-anchor="end">{each["path"]}</text>')
        for offset, ms, color in ((0, each["value"], "#0b7a4b"), (13, each["against"], "#9a9a9a")):
            if ms is None:
                parts.append(f'<text x="{left}" y="{top + offset + 10}">no answer in time</text>')
                continue
            parts.append(
                f'<rect x="{left}" y="{top + offset}" width="{width(ms):.1f}" height="11"'
                f' fill="{color}"/><text x="{left + width(ms) + 5:.1f}" y="{top + offset + 10}">'
                f"{ms:,.1f} ms</text>"
            )
    height = 60 + len(bars) * 34
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{height}"'
        ' font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
        '<text x="12" y="20" font-size="14">Time to a plan, logarithmic: '
        "green Ginkgo, grey kafka-python</text>"
        f"{''.join(parts)}</svg>\n"
    )
