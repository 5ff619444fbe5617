"""The outcome of a run, and the machine it ran on: the input of the report."""

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
from chaos.runner.schedule import ScheduledStep
from ginkgo_site.env import CHECKOUT


@dataclass
class Outcome:
    """Everything that a report shows."""

    seed: int
    minutes: float
    faults: list[str]
    version: str
    machine: dict[str, Any]
    began_at: datetime
    fleet: str = "one"
    lasted_s: float = 0.0
    faults_lasted_s: float = 0.0  #: until convergence after the last fault
    is_whole: bool = False  #: neither interrupted nor given up
    ended_why: str = ""  #: empty: it has not ended
    findings: Findings = field(default_factory=Findings)
    schedule: list[ScheduledStep] = field(default_factory=list)
    longest_gaps: dict[str, float] = field(default_factory=dict)  #: seconds, by portfolio
    samples_taken: int = 0
    failed_samples: int = 0
    hiccups: list[tuple[float, float]] = field(default_factory=list)  #: as in Monitor
    verified: list[dict[str, Any]] = field(default_factory=list)  #: verdicts of verify_portfolio
    canaries: int = 0  #: number of canaries whose digest was checked
    figures: dict[str, Any] = field(default_factory=dict)  #: processor time, load and rows, by name


def version() -> str:
    """Return what `git describe` says of this checkout, "unknown" if it is none."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def machine() -> dict[str, Any]:
    """Return system, Python, processor, cores, memory and load of this machine."""
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
