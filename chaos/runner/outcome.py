"""What a run comes to: everything that its report tells, and on which machine it was."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from chaos.checkers.findings import Findings
from chaos.runner.schedule import Step
from ginkgo_site.env import CHECKOUT


@dataclass
class Outcome:
    """Everything that a report tells."""

    seed: int
    minutes: float
    faults: list[str]
    version: str
    machine: dict[str, Any]
    began_at: datetime
    lasted_s: float = 0.0
    faults_lasted_s: float = 0.0  #: until the last fault had settled
    is_whole: bool = False  #: not interrupted, not given up
    ended_why: str = "it still goes on"
    findings: Findings = field(default_factory=Findings)
    schedule: list[Step] = field(default_factory=list)
    longest_gaps: dict[str, float] = field(default_factory=dict)
    looks: int = 0
    blind_looks: int = 0
    hiccups: list[tuple[float, float]] = field(default_factory=list)
    verified: list[dict[str, Any]] = field(default_factory=list)
    canaries: int = 0
    figures: dict[str, Any] = field(default_factory=dict)


def version() -> str:
    """Return which version of the project runs."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def machine() -> dict[str, Any]:
    """Return what a figure has to be read with."""
    model = ""
    try:
        model = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[0]
    except (OSError, IndexError):
        pass
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average_at_start": [round(each, 2) for each in os.getloadavg()],
    }
