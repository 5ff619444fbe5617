"""The report as one self-contained HTML page: no script, no other file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.template import Context, Engine

from chaos.checkers.findings import Violation
from chaos.report import plots
from chaos.report.text import HEAD, cells, measured_seconds, sampling, verdict


def as_page(report: dict[str, Any]) -> str:
    """Return a report (of `chaos.report.text.as_dict`) as HTML, by the template report.html."""
    template = Engine(dirs=[str(Path(__file__).parent)]).get_template("report.html")
    figures = ", ".join(f"{name} {value}" for name, value in report["figures"].items())
    gaps = sorted(report["longest_bystander_gap_s"].items(), key=lambda item: -item[1])
    steps = [{**step, "began_s": f"{step['began_s']:.0f}"} for step in report["steps"]]
    return template.render(
        Context(
            {
                **report,
                "verdict": verdict(report),
                "violations": [Violation(**each).as_text() for each in report["violations"]],
                "pauses_over_time": plots.pauses_over_time(report),
                "pauses_by_fault": plots.pauses_by_fault(report),
                "pause_distribution": plots.pause_distribution(report),
                "head": HEAD,
                "lines": [{**line, "cells": cells(line)} for line in report["table"]],
                "measured": [
                    (fault, what, ", ".join(f"{each:g}" for each in seconds))
                    for fault, by_what in measured_seconds(report).items()
                    for what, seconds in by_what.items()
                ],
                "gaps": gaps,
                "steps": steps,
                "sampling": sampling(report),
                "figures": figures,
            },
            use_l10n=False,  # formats need Django's settings, which bin/chaos does not load
        )
    )
