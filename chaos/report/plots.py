"""The plots of chaos, soak and bench: matplotlib figures, rendered as SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

mpl.rcParams.update(
    {
        "svg.fonttype": "none",  # text stays text: smaller files, searchable
        "svg.hashsalt": "ginkgo",  # the same ids in every run
        "font.size": 8,
        "grid.color": "#e4e4e4",
        "axes.axisbelow": True,
    }
)

CAUSE_COLORS = {
    "migrate": "#4048b8",
    "reload": "#0b6b83",
    "failover": "#b3261e",
    "register": "#855300",
}
OTHER_COLOR = "#616a63"


class Bar(NamedTuple):
    """One bar of a group, with an optional line up to its worst value."""

    series: str
    value: float
    label: str
    worst: float | None = None


def to_svg(figure: Figure) -> str:
    """Render a figure as an `<svg>` element."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def format_ms(ms: float) -> str:
    """Return `12.3 ms` or, from a second on, `1.23 s`: three significant digits.
    From 100 on, all digits before the point: `1,234 s`."""
    number, unit = (ms, "ms") if ms < 999.5 else (ms / 1000, "s")
    return f"{number:,.0f} {unit}" if number >= 99.5 else f"{number:.3g} {unit}"


def format_s(seconds: float) -> str:
    """Return `1.2 s`, or `12 ms` below a second."""
    return format_ms(seconds * 1000)


def log_bars(
    title: str,
    groups: Sequence[tuple[str, Sequence[Bar]]],
    colors: Mapping[str, str],
    format_value: Callable[[float], str] = format_ms,
) -> str:
    """Plot groups (label, bars) of horizontal bars on a logarithmic scale. Return the SVG.
    `colors` has the color of each series, and makes the legend."""
    count = sum(len(bars) for _, bars in groups)
    figure, axis = _figure(title, height=1.0 + 0.16 * count + 0.12 * len(groups))
    position, ticks = 0.0, []
    for _, bars in groups:
        ticks.append(position + (len(bars) - 1) / 2)
        for bar in bars:
            color = colors[bar.series]
            axis.barh(position, bar.value, height=0.9, color=color)
            end = bar.value if bar.worst is None else bar.worst
            axis.plot([bar.value, end], [position, position], color=color, linewidth=1)
            axis.annotate(
                bar.label, (end, position), (4, 0), textcoords="offset points", va="center"
            )
            position += 1
        position += 0.8
    axis.set_yticks(ticks, [label for label, _ in groups])
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_value(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="x")
    axis.legend(
        handles=[Patch(color=color, label=series) for series, color in colors.items()],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.8 / max(figure.get_figheight(), 1)),
        ncols=len(colors),
        frameon=False,
    )
    return to_svg(figure)


def pauses_over_time(report: dict[str, Any]) -> str:
    """Plot every pause at its time on a logarithmic scale, with a band for each step.

    The band is red if the step broke an invariant.
    """
    figure, axis = _figure("Pauses over time", height=3.2)
    broken = {violation["step"] for violation in report["violations"]}
    for step in report["steps"]:
        axis.axvspan(
            step["began_s"] / 60,
            step["ended_s"] / 60,
            color="#fdeae8" if step["step"] in broken else "#eceee9",
            linewidth=0,
        )
    for cause, changes in _pauses_by_cause(report).items():
        axis.scatter(
            [change["at_s"] / 60 for change in changes],
            [max(change["pause_ms"], 1) for change in changes],
            s=6,
            color=CAUSE_COLORS.get(cause, OTHER_COLOR),
            label=f"{cause} ({len(changes)})",
        )
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_ms(value)))
    axis.set_xlabel("minutes")
    _outside_legend(axis)
    return to_svg(figure)


def pauses_by_fault(report: dict[str, Any]) -> str:
    """Plot the median and the worst pause of each fault, 1 ms or more on a logarithmic scale."""
    lines = [line for line in report["table"] if line["pause_worst_ms"]]
    lines.sort(key=lambda line: -line["pause_worst_ms"])
    groups = [
        (
            line["fault"],
            [
                Bar("median", max(line["pause_p50_ms"] or 1, 1), ""),
                Bar("worst", max(line["pause_worst_ms"], 1), format_ms(line["pause_worst_ms"])),
            ],
        )
        for line in lines
    ]
    colors = {"median": CAUSE_COLORS["migrate"], "worst": "#c9cef0"}
    return log_bars("Median and worst pause of each fault", groups, colors)


def pause_distribution(report: dict[str, Any]) -> str:
    """Plot the cumulative distribution of pauses for each cause."""
    figure, axis = _figure("Distribution of pauses by cause", height=2.8)
    for cause, changes in _pauses_by_cause(report).items():
        axis.ecdf(
            [max(change["pause_ms"], 1) for change in changes],
            color=CAUSE_COLORS.get(cause, OTHER_COLOR),
            label=f"{cause} ({len(changes)})",
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_ms(value)))
    axis.grid()
    _outside_legend(axis)
    return to_svg(figure)


def _pauses_by_cause(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return cause → the changes of owner that have a pause, the most frequent cause first."""
    causes: dict[str, list[dict[str, Any]]] = {}
    for change in report["changes"]:
        if change["pause_ms"] is not None:
            causes.setdefault(change["cause"], []).append(change)
    return dict(sorted(causes.items(), key=lambda item: -len(item[1])))


def _figure(title: str, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, height))
    axis = figure.subplots()
    axis.set_title(title, loc="left")
    return figure, axis


def _outside_legend(axis: Axes) -> None:
    """Draw the legend beside the plot, if it has entries."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
