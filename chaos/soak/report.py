"""The report of a soak: series that should stay flat, as plots and as a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from chaos.report.plots import to_svg
from chaos.report.text import as_text as chaos_text
from chaos.soak.compression import DAY_S, KEEP_EQUITY_DAYS, KEEP_ORDERS_DAYS, Compression

Sample = dict[str, Any]
#: A series is not flat if its last quarter exceeds its second one by more than the share and by
#: more than the amount of its unit.
GROWTH_PERCENT, GROWTH_MB, GROWTH_DESCRIPTORS = 10.0, 15.0, 10.0
MIN_SAMPLES = 8  #: of which growth can be judged: two in each quarter
PRODUCT_RATE = 100.0  #: events a second of the feed by default

ROLES = (
    *("web", "watcher", "worker", "daemons", "portfolio processes"),
    *("postgres backends", "postgres server", "launcher"),
)


def series(samples: Sequence[Sample], read: Callable[[Sample], Any]) -> list[tuple[float, float]]:
    """Return (seconds since the installation was up, value) of every sample that has a value."""
    found = []
    for sample in samples:
        try:
            value = read(sample)
        except (KeyError, TypeError):
            continue  # the database or the process was down
        if value is not None:
            found.append((sample["at_s"], float(value)))
    return found


def quarters(line: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Return the medians of the second and the last quarter; None if MIN_SAMPLES is not reached."""
    if len(line) < MIN_SAMPLES:
        return None
    part = len(line) // 4
    second = statistics.median(value for _, value in line[part : 2 * part])
    last = statistics.median(value for _, value in line[3 * part :])
    return second, last


def memory(role: str) -> Callable[[Sample], Any]:
    """Return a function that reads the mean memory of a role's processes, in MB, from a sample."""
    return lambda sample: sample["processes"][role]["mb"] / sample["processes"][role]["processes"]


def descriptors(role: str) -> Callable[[Sample], Any]:
    """Return a function that reads the mean descriptors of a role's processes from a sample."""
    return lambda sample: sample["processes"][role]["fds"] / sample["processes"][role]["processes"]


def table(name: str) -> Callable[[Sample], Any]:
    """Return a function that reads a table's size, with its indexes, in MB, from a sample."""
    return lambda sample: sample["tables"][name] / 1e6


def rows(samples: Sequence[Sample]) -> list[tuple[str, str, tuple[float, float] | None]]:
    """Return (name, unit, what `quarters` returns) of every series, of tables above 0.5 MB only."""
    figures = [(f"{role}: memory of a process", "MB", memory(role)) for role in ROLES]
    figures += [(f"{role}: file descriptors", "", descriptors(role)) for role in ROLES]
    figures += FIGURES
    found = [(what, unit, quarters(series(samples, read))) for what, unit, read in figures]
    names = sorted({name for sample in samples for name in sample.get("tables", ())})
    tables = [(name, quarters(series(samples, table(name)))) for name in names]
    found += [(f"table {name}", "MB", line) for name, line in tables if line and max(line) >= 0.5]
    return found


#: (name, unit, function that reads the value from a sample).
FIGURES: tuple[tuple[str, str, Callable[[Sample], Any]], ...] = (
    ("event to commit, median of portfolios", "ms", lambda s: s["age_p50_ms"]),
    ("event to commit, slowest portfolio", "ms", lambda s: s["age_worst_ms"]),
    ("connections", "", lambda s: s["connections"]),
    ("files of the WAL", "MB", lambda s: s["wal_files"] / 1e6),
    ("database", "MB", lambda s: s["database"] / 1e6),
    ("partitions", "", lambda s: s["partitions"]),
    ("oldest snapshot", "transactions", lambda s: s["oldest_snapshot"]),
    ("logs", "MB", lambda s: s["logs"] / 1e6),
    ("load average of the machine", "", lambda s: s["load"]),
)


def as_text(
    report: dict[str, Any], samples: Sequence[Sample], compression: Compression, rate: float
) -> str:
    """Return the report as a page of plain text."""
    events = int(samples[-1]["at_s"] * rate) if samples else 0
    real = compression.days * DAY_S * PRODUCT_RATE
    lines = [
        f"bin/soak --days {compression.days:g} --minutes {compression.minutes:g} --rate {rate:g}"
        f" --seed {report['seed']}",
        f"{compression.days:g} days in {compression.minutes:g} minutes ({compression.factor:.0f}"
        f" times): {events:,} events released, {events / max(compression.days, 0.01):,.0f} a day."
        f" Orders and fills are kept for {KEEP_ORDERS_DAYS:g} compressed days, equity points for"
        f" {KEEP_EQUITY_DAYS:g}.",
        "Only the clock of the retention is compressed. Heartbeats and equity points come in real"
        f" seconds, and the feed releases {rate:g} events a real second:",
        f"{compression.days:g} days at the product's 100 a second are {real:,.0f} events, of which"
        f" this run had {100 * events / real:.1f} %.",
        "",
        f"{'what':<46}{'2nd quarter':>14}{'last quarter':>14}{'growth':>9}",
    ]
    for what, unit, line in rows(samples):
        if line is None:
            continue
        second, last = line
        growth = f"{100 * (last - second) / second:+.0f} %" if second else "–"
        label = f"{what}, {unit}" if unit else what
        lines.append(f"{label:<46}{second:>14,.1f}{last:>14,.1f}{growth:>9}")
    wal = [value for _, value in series(samples, lambda s: s["wal_written"])]
    if len(wal) > 1 and compression.days:
        written = (wal[-1] - wal[0]) / 1e6
        lines.append("")
        lines.append(
            f"WAL written: {written:,.0f} MB, {written * 1e6 / max(events, 1):,.0f} bytes an event."
        )
    archived = [value for _, value in series(samples, lambda s: s["archive"] / 1e6)]
    if archived:
        lines.append(f"Archived as Parquet: {archived[-1]:,.1f} MB.")
    rising = not_flat(samples)
    lines.append(
        "Not flat: " + "; ".join(rising) + "."
        if rising
        else f"Flat: nothing grew by more than {GROWTH_PERCENT:g} % with more than"
        f" {GROWTH_MB:g} MB or {GROWTH_DESCRIPTORS:g} descriptors."
    )
    return "\n".join([*lines, "", "", chaos_text(report)])


def not_flat(samples: Sequence[Sample]) -> list[str]:
    """Return phrases on memory and descriptors of roles that are not flat; [] if all are flat.

    Of fewer than MIN_SAMPLES nothing is known, and one phrase says so.
    """
    if len(samples) < MIN_SAMPLES:
        return [f"growth is not known from {len(samples)} samples; it takes {MIN_SAMPLES}"]
    found = []
    for role in ROLES:
        for what, unit, read, most in (
            ("memory", "MB", memory, GROWTH_MB),
            ("descriptors", "", descriptors, GROWTH_DESCRIPTORS),
        ):
            line = quarters(series(samples, read(role)))
            if line is None:
                continue
            second, last = line
            if last - second > most and last > second * (1 + GROWTH_PERCENT / 100):
                found.append(f"{what} of {role} from {second:.0f} to {last:.0f} {unit}".strip())
    return found


def draw(
    report: dict[str, Any], samples: Sequence[Sample], compression: Compression, path: Path
) -> None:
    """Plot the most important series over the compressed days into one SVG at `path`."""
    read_of = {name: read for name, _, read in FIGURES}
    # (title, lines as (label, function that reads the value), whether the scale is logarithmic)
    panels: tuple[tuple[str, list[tuple[str, Callable[[Sample], Any]]], bool], ...] = (
        ("Memory of one process, MB", [(role, memory(role)) for role in ROLES], False),
        ("File descriptors of one process", [(role, descriptors(role)) for role in ROLES], False),
        ("Event to commit, ms",
         [("median", read_of["event to commit, median of portfolios"]),
          ("slowest", read_of["event to commit, slowest portfolio"])], True),
        ("Tables, MB",
         [("orders", table("portfolios_order")), ("fills", table("portfolios_fill")),
          ("equity points", table("portfolios_equitypoint")),
          ("audit log", table("scheduling_event")),
          ("checkpoints", table("portfolios_checkpoint"))], False),
        ("WAL and archive, MB", [("files of the WAL", read_of["files of the WAL"]),
                                 ("archive", lambda s: s["archive"] / 1e6)], False),
        ("Connections and partitions", [("connections", read_of["connections"]),
                                        ("partitions", read_of["partitions"])], False),
    )  # fmt: skip
    figure = Figure(figsize=(10, 2.6 * len(panels)), layout="tight")
    axes = figure.subplots(len(panels), 1, sharex=True)
    for axis, (title, lines, logarithmic) in zip(axes, panels, strict=True):
        for step in report["steps"]:
            axis.axvspan(
                compression.day_at(step["began_s"]),
                compression.day_at(step["ended_s"]),
                color="#d9d9d9",
                linewidth=0,
            )
        for label, read in lines:
            line = series(samples, read)
            axis.plot(
                [compression.day_at(at) for at, _ in line],
                [value for _, value in line],
                label=label,
                linewidth=1,
            )
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_yscale("log" if logarithmic else "linear")
        if not logarithmic:
            axis.set_ylim(bottom=0)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("compressed days (grey: a fault)")
    path.write_text(to_svg(figure), encoding="utf-8")
