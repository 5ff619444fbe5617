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
    """Return the rows as text; under a row what its note lists, a line each."""
    lines = [f"{'path':42} {'figure':50} {'value':>14} {'against':>10} {'ratio':>8}  met  target"]
    for each in rows:
        met = {True: "yes", False: "NO ", None: "-  "}[each["met"]]
        value = f"{each['value']:,g} {each['unit']}"
        against = "-" if each["against"] is None else f"{each['against']:,g}"
        ratio = "-" if each["ratio"] is None else f"{each['ratio']:g}"
        lines.append(
            f"{each['path']:42} {each['name']:50} {value:>14} {against:>10} {ratio:>8}"
            f"  {met}  {each['target']}"
        )
        lines += [f"    {line}" for line in each.get("note", "").split(" | ") if line]
    return "\n".join(lines) + "\n"


LEFT, WIDE, TOP = 310, 560, 84  #: of the plot: its labels, its bars, what is above them
LEAST_MS, DECADES = 0.1, 6  #: of the scale: 0.1 ms to 100 s
COLORS = {"Ginkgo": "#0b7a4b", "kafka-python": "#a8a29a", "greedy floor": "#d9b44a"}


def as_svg(rows: list[dict[str, Any]], limit_s: int) -> str:
    """Return the times as bars on a logarithmic scale, ours above the peer's."""
    timed = [each for each in rows if each["unit"] == "ms" and "CP-SAT" not in each["path"]]
    parts, top, path = [], TOP, ""
    for each in timed:
        if each["path"] != path:
            path = each["path"]
            parts.append(_text(12, top + 12, f"{path}", weight="bold"))
            top += 20
        peer = "greedy floor" if "weights" in path else "kafka-python"
        parts.append(_text(LEFT - 8, top + 16, each["name"], anchor="end"))
        parts.append(_bar(top, each["value"], COLORS["Ginkgo"], _ms(each["value"])))
        if each["against"] is None:
            parts.append(_text(LEFT + 4, top + 24, f"{peer}: no answer in {limit_s} s", "#777"))
        else:
            times = each["against"] / each["value"]
            label = f"{_ms(each['against'])}  ({times:,.0f} ×)"
            if times < 10:
                label = f"{_ms(each['against'])}  ({times:.2g} ×)"
            parts.append(_bar(top + 13, each["against"], COLORS[peer], label))
        top += 34
    grid = []
    for decade in range(DECADES + 1):
        x = LEFT + WIDE * decade / DECADES
        grid.append(f'<path d="M{x:.1f} {TOP - 6}V{top}" stroke="#e4e4e4"/>')
        grid.append(_text(x, TOP - 12, _ms(LEAST_MS * 10**decade), "#777", anchor="middle"))
    legend = []
    for number, (name, color) in enumerate(COLORS.items()):
        x = 12 + number * 120
        legend.append(f'<rect x="{x}" y="36" width="11" height="11" fill="{color}"/>')
        legend.append(_text(x + 16, 46, name))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDE + 150}" height="{top + 16}"'
        ' font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
        '<text x="12" y="22" font-size="15">Time to a plan, of the processor, on a logarithmic '
        "scale; in brackets how many times ours the peer takes</text>"
        f"{''.join((*legend, *grid, *parts))}</svg>\n"
    )


def _bar(top: float, ms: float, color: str, label: str) -> str:
    width = max(2.0, WIDE * math.log10(max(ms, LEAST_MS) / LEAST_MS) / DECADES)
    rect = f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="11" fill="{color}"/>'
    return rect + _text(LEFT + width + 5, top + 10, label)


def _text(
    x: float, y: float, words: str, fill: str = "#222", *, anchor: str = "start", weight: str = ""
) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return f'<text x="{x:.1f}" y="{y}" fill="{fill}" text-anchor="{anchor}"{bold}>{words}</text>'


def _ms(ms: float) -> str:
    return f"{ms / 1000:,.3g} s" if ms >= 1000 else f"{ms:.3g} ms"
