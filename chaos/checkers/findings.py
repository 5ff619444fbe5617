"""What a run found, collected from all of its threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Violation:
    """A violated invariant, or a fault that did not have its expected effect."""

    invariant: str  #: `I1` … `I12`, or `fault`
    what: str
    at_s: float = 0.0  #: since the installation was up
    step: int = 0  #: 0: between two steps
    faults: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)

    def as_text(self) -> str:
        """Format as `I7 at 93.1 s in 12 kill-web: ibm-sma …`, or `… between faults: …`."""
        where = f"in {self.step} {' + '.join(self.faults)}" if self.step else "between faults"
        return f"{self.invariant} at {self.at_s:.1f} s {where}: {self.what}"


@dataclass
class OwnerChange:
    """One change of owner or revision, and the pause between the commits around it."""

    at_s: float  #: since the installation was up
    portfolio: str
    node: str
    cause: str
    epoch: int
    pause_ms: float | None  #: None: no commit yet, or a pause that does not count
    step: int  #: 0: between two steps
    faults: tuple[str, ...]


@dataclass
class StepResult:
    """Result of one step of the schedule."""

    step: int
    faults: tuple[str, ...]
    began_s: float
    ended_s: float = 0.0
    settled_s: float | None = None  #: from the end of the fault to convergence, None if not reached
    longest_gap_s: float = 0.0  #: between two commits of a bystander
    gap_of: str = ""  #: name of that portfolio
    longest_pause_s: float = 0.0  #: between two commits of any portfolio that ran
    pause_of: str = ""  #: name of that portfolio
    notes: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)  #: seconds, by what took them
    not_available: str = ""  #: why this machine could not inject the fault


class Findings:
    """Violations, steps and owner changes in order of time. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._violations: list[Violation] = []
        self._seen: set[tuple[str, str]] = set()  #: (invariant, sentence)
        self.changes: list[OwnerChange] = []
        self.steps: list[StepResult] = []

    def add(self, violation: Violation) -> bool:
        """Add a violation unless its invariant and sentence are known. Return whether it is new."""
        with self._lock:
            key = (violation.invariant, violation.what)
            if key in self._seen:
                return False
            self._seen.add(key)
            self._violations.append(violation)
            return True

    @property
    def violations(self) -> list[Violation]:
        """All violations so far."""
        with self._lock:
            return self._violations.copy()
