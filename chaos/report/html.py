"""The report as one HTML page that needs nothing else: no script, no other file."""

from __future__ import annotations

from html import escape
from typing import Any

from chaos.checkers.findings import Violation
from chaos.report import plots
from chaos.report.text import HEAD, cells, verdict

STYLE = """
:root { color-scheme: light dark; --bg: #f3f4f1; --surface: #fff; --line: #dfe2db; --ink: #191d1a;
  --ink-2: #4a524c; --bad: #b3261e; --bad-soft: #fdeae8; --ok: #1f7a4a; --band: #eceee9;
  --k1: #4048b8; --k2: #0b6b83; --k3: #b3261e; --k4: #855300; --k5: #616a63; --soft: #c9cef0; }
@media (prefers-color-scheme: dark) { :root { --bg: #0e110f; --surface: #1a1f1c; --line: #29302c;
  --ink: #e7ebe8; --ink-2: #b6beb8; --bad: #ff8f85; --bad-soft: #3b1715; --ok: #62c58f;
  --band: #222824; --k1: #a9b0ff; --k2: #5fc4da; --k3: #ff8f85; --k4: #ecb754; --k5: #96a099;
  --soft: #3a3f72; } }
body { margin: 0; background: var(--bg); color: var(--ink);
  font: 13px/1.5 Inter, system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 15px; margin: 24px 0 8px; }
p { margin: 4px 0; } .about { color: var(--ink-2); }
.verdict { font-size: 15px; padding: 12px 16px; border-radius: 6px; background: var(--surface);
  border-left: 4px solid var(--ok); margin: 12px 0; } .verdict.bad { border-color: var(--bad); }
.box { background: var(--surface); border: 1px solid var(--line); border-radius: 6px;
  padding: 8px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 8px; border-bottom: 1px solid var(--line);
  white-space: nowrap; } th { color: var(--ink-2); font-weight: 500; }
th:first-child, td:first-child, td.words { text-align: left; }
td.words { white-space: normal; } tr.bad td { background: var(--bad-soft); }
li { margin: 2px 0; } svg { width: 100%; height: auto; display: block; }
text { font-size: 11px; fill: var(--ink-2); } .grid { stroke: var(--line); }
.band { fill: var(--band); } .band.bad { fill: var(--bad-soft); }
.band:hover { stroke: var(--ink-2); } .soft { fill: var(--soft); }
.k1 { fill: var(--k1); } .k2 { fill: var(--k2); } .k3 { fill: var(--k3); } .k4 { fill: var(--k4); }
.k5 { fill: var(--k5); } .line { fill: none; stroke-width: 1.5; }
.line.k1 { stroke: var(--k1); } .line.k2 { stroke: var(--k2); } .line.k3 { stroke: var(--k3); }
.line.k4 { stroke: var(--k4); } .line.k5 { stroke: var(--k5); }
"""


def as_page(found: dict[str, Any]) -> str:
    """Return the page."""
    machine, bad = found["machine"], bool(found["violations"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Chaos, seed {found["seed"]}</title><style>{STYLE}</style></head><body><main>
<h1>Chaos, seed {found["seed"]}</h1>
<p class="about">bin/chaos --minutes {found["minutes"]:g} --seed {found["seed"]} · version
{escape(str(found["version"]))} · began {found["began_at"][:19]}Z · {escape(machine["processor"])},
{machine["cores"]} cores, {machine["memory_gb"]:g} GB · {escape(machine["system"])} · Python
{escape(machine["python"])} · ended because {escape(found["ended_why"])}</p>
<p class="verdict{" bad" if bad else ""}">{escape(verdict(found))}</p>
{_violations(found)}
<h2>Pauses over time</h2><p class="about">A point is one change of owner or revision: the time
between the last commit before it and the first after it, on the database's clock. A band is a
fault, until everything has settled.</p>
<div class="box">{plots.over_time(found)}</div>
<h2>Median and worst pause of each fault</h2><div class="box">{plots.worst(found)}</div>
<h2>Distribution</h2><div class="box">{plots.distribution(found)}</div>
<h2>Faults</h2><div class="box"><table><thead><tr>{_row(HEAD, "th")}</tr></thead><tbody>
{"".join(_line(line) for line in found["table"])}</tbody></table></div>
<h2>Verified against an uninterrupted run</h2><div class="box"><table><tbody>
{"".join(_verified(each) for each in found["verified"])}</tbody></table></div>
<h2>Longest gap between commits of a bystander</h2><div class="box"><table><tbody>
{"".join(f"<tr>{_row((n, f'{g:.2f} s'), 'td')}</tr>" for n, g in _gaps(found))}
</tbody></table></div>
<p class="about">Looked {found["looks"]:,} times, {found["blind_looks"]} times in vain; looks that
came over a second late because the machine was busy: {_hiccups(found)}. {_figures(found)}</p>
<h2>What was done</h2><div class="box"><table><tbody>
{"".join(_step(step) for step in found["steps"])}</tbody></table></div>
</main></body></html>
"""


def _row(cells_: tuple[str, ...], tag: str) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells_)


def _line(line: dict[str, Any]) -> str:
    row = cells(line)
    if line["not_available"]:
        return (
            f'<tr><td>{escape(row[0])}</td><td class="words" colspan="8">{escape(row[2])}</td></tr>'
        )
    return f"{_tr(bool(line['violations']))}{_row(row, 'td')}</tr>"


def _tr(is_bad: bool) -> str:
    return '<tr class="bad">' if is_bad else "<tr>"


def _violations(found: dict[str, Any]) -> str:
    if not found["violations"]:
        return ""
    items = "".join(
        f"<li>{escape(Violation(**each).as_text())}</li>" for each in found["violations"]
    )
    return f"<h2>Violations</h2><ol>{items}</ol>"


def _verified(each: dict[str, Any]) -> str:
    return (
        f"{_tr(each.get('state') != 'identical')}<td>{escape(str(each.get('portfolio')))}</td>"
        f'<td class="words">{escape(str(each.get("sentence") or each.get("state")))}</td></tr>'
    )


def _gaps(found: dict[str, Any]) -> list[tuple[str, float]]:
    return sorted(found["longest_bystander_gap_s"].items(), key=lambda item: -item[1])


def _hiccups(found: dict[str, Any]) -> str:
    return ", ".join(f"{long:g} s at {at:g} s" for at, long in found["hiccups"]) or "none"


def _figures(found: dict[str, Any]) -> str:
    return escape(", ".join(f"{key} {value}" for key, value in found["figures"].items()))


def _step(step: dict[str, Any]) -> str:
    settled = (
        f"settled in {step['settled_s']:g} s" if step["settled_s"] is not None else "unsettled"
    )
    notes = "; ".join([*step["notes"], *([step["not_available"]] if step["not_available"] else [])])
    return (
        f"<tr><td>{step['step']}</td><td>{step['began_s']:.0f} s</td>"
        f'<td class="words">{escape(" + ".join(step["faults"]))}</td><td>{settled}</td>'
        f'<td class="words">{escape(notes)}</td></tr>'
    )
