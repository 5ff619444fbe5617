"""What a run found, collected from all of its threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Violation:
    """A promise that was broken."""

    invariant: str  #: `I1` … `I12`, or `fault` where one did not do what it should
    what: str
    at_s: float = 0.0
    step: int = 0
    faults: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)

    def as_text(self) -> str:
        """`I7 at 93.1 s in 12 kill-web: ibm-sma …`"""
        where = f"in {self.step} {' + '.join(self.faults)}" if self.step else "between faults"
        return f"{self.invariant} at {self.at_s:.1f} s {where}: {self.what}"


@dataclass
class Change:
    """One change of owner or revision, and for how long nothing was committed."""

    at_s: float
    portfolio: str
    node: str
    cause: str
    epoch: int
    pause_ms: float | None
    step: int
    faults: tuple[str, ...]


@dataclass
class StepResult:
    """One step as it went."""

    step: int
    faults: tuple[str, ...]
    began_s: float
    ended_s: float = 0.0
    settled_s: float | None = None  #: seconds from the end of the fault, None if it never did
    longest_gap_s: float = 0.0  #: of a bystander
    gap_of: str = ""
    notes: list[str] = field(default_factory=list)
    not_available: str = ""


class Findings:
    """Violations, steps and changes in the order they came. Threads may add at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._violations: list[Violation] = []
        self._said: set[tuple[str, str]] = set()
        self.changes: list[Change] = []
        self.steps: list[StepResult] = []

    def add(self, violation: Violation) -> bool:
        """Keep it, unless the same was said before; return whether it was kept."""
        with self._lock:
            key = (violation.invariant, violation.what)
            if key in self._said:
                return False
            self._said.add(key)
            self._violations.append(violation)
            return True

    @property
    def violations(self) -> list[Violation]:
        """All of them so far."""
        with self._lock:
            return self._violations.copy()
