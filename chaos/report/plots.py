"""Plots as SVG text: pauses over time, the worst of each fault, their distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH = 1000
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 34
DECADES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0)
KINDS = {
    "migrate": "k1",
    "reload": "k2",
    "failover": "k3",
    "register": "k4",
}  #: the rest has `k5`


def over_time(found: dict[str, Any]) -> str:
    """Every pause at its time, on a scale of decades, with a band for each step."""
    height = 320
    pauses = [c for c in found["changes"] if c["pause_ms"] is not None]
    end_s = max([found["faults_lasted_s"], *(s["ended_s"] for s in found["steps"]), 1.0])

    def x(at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at_s / end_s

    y = _decades(height, [c["pause_ms"] for c in pauses])
    parts = []
    for step in found["steps"]:
        name = " + ".join(step["faults"])
        wide = max(x(step["ended_s"]) - x(step["began_s"]), 1)
        bad = any(v["step"] == step["step"] for v in found["violations"])
        parts.append(
            f'<rect class="{"bad band" if bad else "band"}" x="{x(step["began_s"]):.1f}" y="{TOP}"'
            f' width="{wide:.1f}" height="{height - TOP - BOTTOM}">'
            f"<title>{escape(name)}, {step['began_s']:.0f} to {step['ended_s']:.0f} s</title>"
            "</rect>"
        )
    parts += _grid(height, y)
    minutes = max(int(end_s // 60), 1)
    every = max(-(-minutes // 12), 1)
    for minute in range(0, minutes + 1, every):
        parts.append(_text(x(minute * 60), height - 12, f"{minute} min", "middle"))
    for change in pauses:
        kind = KINDS.get(change["cause"], "k5")
        parts.append(
            f'<circle class="{kind}" cx="{x(change["at_s"]):.1f}" cy="{y(change["pause_ms"]):.1f}"'
            f' r="3"><title>{escape(change["portfolio"])}: {escape(change["cause"])} to'
            f" {escape(change['node'])}, {change['pause_ms']:,.0f} ms, during"
            f" {escape(' + '.join(change['faults']) or 'nothing')}</title></circle>"
        )
    return _svg(height, parts, "Pauses over time")


def worst(found: dict[str, Any]) -> str:
    """The worst pause of each fault, as bars on a scale of decades."""
    table = [line for line in found["table"] if line["pause_worst_ms"]]
    table.sort(key=lambda line: -line["pause_worst_ms"])
    left, row = 200, 18
    height = TOP + row * max(len(table), 1) + BOTTOM
    top = _top_decade([line["pause_worst_ms"] for line in table])

    def x(value: float) -> float:
        return left + (WIDTH - left - 90) * math.log10(max(value, 1)) / math.log10(top)

    parts = []
    for decade in [d for d in DECADES if d <= top]:
        parts.append(_line(x(decade), TOP, x(decade), height - BOTTOM))
        parts.append(_text(x(decade), height - 14, _duration(decade), "middle"))
    for number, line in enumerate(table):
        at = TOP + number * row
        parts.append(_text(left - 8, at + 13, line["fault"], "end"))
        for key, kind, thick in (("pause_worst_ms", "soft", 12), ("pause_p50_ms", "k1", 12)):
            if line[key]:
                parts.append(
                    f'<rect class="{kind}" x="{left}" y="{at + 3}" height="{thick}"'
                    f' width="{max(x(line[key]) - left, 1):.1f}"/>'
                )
        value = _duration(line["pause_worst_ms"])
        parts.append(_text(x(line["pause_worst_ms"]) + 6, at + 13, value, "start"))
    return _svg(height, parts, "Median and worst pause of each fault")


def distribution(found: dict[str, Any]) -> str:
    """How many of all pauses were at most so long, for each kind of change."""
    height = 280
    groups: dict[str, list[float]] = {}
    for change in found["changes"]:
        if change["pause_ms"] is not None:
            groups.setdefault(change["cause"], []).append(change["pause_ms"])
    top = _top_decade([pause for group in groups.values() for pause in group])

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - 130) * math.log10(max(value, 1)) / math.log10(top)

    def y(share: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (1 - share)

    parts = []
    for decade in [d for d in DECADES if d <= top]:
        parts.append(_line(x(decade), TOP, x(decade), height - BOTTOM))
        parts.append(_text(x(decade), height - 14, _duration(decade), "middle"))
    for share in (0.0, 0.5, 0.9, 1.0):
        parts.append(_line(LEFT, y(share), x(top), y(share)))
        parts.append(_text(LEFT - 8, y(share) + 4, f"{share:.0%}", "end"))
    for number, (cause, group) in enumerate(sorted(groups.items(), key=lambda g: -len(g[1]))):
        group.sort()
        kind = KINDS.get(cause, "k5")
        path, before = f"M{x(1):.1f},{y(0):.1f}", 0.0
        for rank, pause in enumerate(group, 1):
            path += f"L{x(pause):.1f},{y(before):.1f}L{x(pause):.1f},{y(rank / len(group)):.1f}"
            before = rank / len(group)
        parts.append(f'<path class="line {kind}" d="{path}L{x(top):.1f},{y(1):.1f}"/>')
        at = TOP + 16 + 18 * number
        parts.append(f'<circle class="{kind}" cx="{WIDTH - 112}" cy="{at - 4}" r="4"/>')
        parts.append(_text(WIDTH - 102, at, f"{cause} ({len(group)})", "start"))
    return _svg(height, parts, "Distribution of pauses by kind")


def _decades(height: int, values: Sequence[float]) -> Any:
    top = _top_decade(values)

    def y(value: float) -> float:
        share = math.log10(max(value, 1)) / math.log10(top)
        return TOP + (height - TOP - BOTTOM) * (1 - min(share, 1.0))

    y.top = top  # type: ignore[attr-defined]
    return y


def _top_decade(values: Sequence[float]) -> float:
    longest = max(values, default=1_000.0)
    return next((decade for decade in DECADES[3:] if decade >= longest), 1e6)


def _grid(height: int, y: Any) -> list[str]:
    parts = []
    for decade in [d for d in DECADES if d <= y.top]:
        parts.append(_line(LEFT, y(decade), WIDTH - RIGHT, y(decade)))
        parts.append(_text(LEFT - 8, y(decade) + 4, _duration(decade), "end"))
    return parts


def _duration(ms: float) -> str:
    return f"{ms:,.0f} ms" if ms < 1_000 else f"{ms / 1_000:,.3g} s"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: int, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )
