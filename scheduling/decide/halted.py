"""What one halt did: values that `enact` returns and that `observe` reads from the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Stopped:
    """One stopped portfolio: its state before, and its fence now."""

    portfolio: str
    phase: str  #: before
    node: str | None  #: before
    handoff: str | None  #: kind of the handoff that was ended
    epoch_before: int
    epoch: int
    last_seq: int  #: of the last accepted commit


@dataclass(frozen=True, slots=True)
class Halted:
    """The outcome of one halt. `halt` is its number, or None if there was nothing to stop."""

    halt: int | None
    at: datetime
    actor: str
    reason: str
    running: int  #: portfolios with an owner
    results: Sequence[Stopped]
