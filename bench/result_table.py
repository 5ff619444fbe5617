"""Result rows of the benches as JSON, as a text table, and as plots."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from chaos.report import plots


def report(
    rows: Iterable[dict[str, Any]],
    name: str,
    plot: Callable[[list[dict[str, Any]]], str] | None = None,
) -> NoReturn:
    """Print the rows as JSON, their table to stderr; write table and plot to BENCH_OUT, if set.

    Exit 1 if a target is not met, 0 otherwise.
    """
    found = []
    for each in rows:
        found.append(each)
        print(json.dumps(each), flush=True)
    table = as_table(found)
    print(table, file=sys.stderr)
    if out := os.environ.get("BENCH_OUT"):
        Path(out).mkdir(parents=True, exist_ok=True)
        Path(out, f"{name}.txt").write_text(table)
        if plot is not None:
            Path(out, f"{name}.svg").write_text(plot(found))
    sys.exit(0 if all(each["met"] is not False for each in found) else 1)


def given_numbers(*defaults: int) -> list[int]:
    """Return the numbers of the command line, and the defaults of those that it leaves out."""
    given = [int(text) for text in sys.argv[1 : len(defaults) + 1]]
    return given + list(defaults[len(given) :])


def row(
    setup: str,
    name: str,
    value: float,
    unit: str,
    *,
    spread: list[float] | None = None,
    against: Any = None,
    at_most: float | None = None,
    target: str = "",
    met: bool | None = None,
    note: str = "",
) -> dict[str, Any]:
    """Return one result of `setup`, which says what was measured, and at which size.

    `spread` is [lowest, highest], `against` the value to compare with, which gives `ratio`, and
    `at_most` a target for the value.
    """
    if at_most is not None:
        target, met = f"<= {at_most:g}", value <= at_most
    ratio = round(value / against, 4) if isinstance(against, (int, float)) and against else None
    found = {
        "path": setup,
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


def median_row(
    setup: str, name: str, took: Sequence[float], unit: str, factor: float = 1, **more: Any
) -> dict[str, Any]:
    """Return the row of a median, with the lowest and the highest value; all times `factor`."""
    spread = [round(min(took) * factor, 3), round(max(took) * factor, 3)]
    return row(setup, name, statistics.median(took) * factor, unit, spread=spread, **more)


def as_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a text table, each followed by the lines of its note."""
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


COLORS = {"Ginkgo": "#0b7a4b", "kafka-python": "#a8a29a", "greedy heap": "#d9b44a"}
LOSS_COLORS = {
    "mark to plan": "#7fc8a4",
    "mark to all requested": "#0b7a4b",
    "mark to all granted": "#2a5d9c",
    "mark to all committed elsewhere": "#9a9a9a",
}


def planner_svg(rows: list[dict[str, Any]], limit_s: int) -> str:
    """Plot the planning times of `bench.planner`, Ginkgo's above the peer's."""
    groups = []
    for each in rows:
        if each["unit"] != "ms" or "CP-SAT" in each["path"]:
            continue  # no time, or that of a plan that no peer made
        # Only the setup of `against_greedy` has this word.
        peer = "greedy heap" if "weights" in each["path"] else "kafka-python"
        bars = [plots.Bar("Ginkgo", each["value"], plots.format_ms(each["value"]))]
        if each["against"] is None:
            bars.append(plots.Bar(peer, 0.01, f"no answer in {limit_s} s"))  # ms: too short to see
        else:
            label = f"{plots.format_ms(each['against'])} ({each['against'] / each['value']:,.3g} ×)"
            bars.append(plots.Bar(peer, each["against"], label))
        groups.append((f"{each['path']}: {each['name']}", bars))
    title = "Processor time of a plan; in brackets the peer's time relative to Ginkgo's"
    return plots.log_bars(title, groups, COLORS)


def loss_svg(rows: list[dict[str, Any]]) -> str:
    """Plot the times of `bench.fleet` after a node loss, for each size of the fleet."""
    groups: dict[str, list[plots.Bar]] = {}  # by the setup (`path`), which names the size
    for each in rows:
        if each["name"] in LOSS_COLORS:
            median, (_, worst) = each["value"], each["spread"]
            label = f"{median:.2f} s, worst {worst:.2f} s"
            bar = plots.Bar(each["name"], median, label, worst)
            groups.setdefault(each["path"], []).append(bar)
    title = "One node lost: seconds after the node was marked lost, median and worst"
    return plots.log_bars(title, list(groups.items()), LOSS_COLORS, plots.format_s)
