"""A fault: its name, its injection, its duration, and whether portfolios may move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chaos.runner.fault_context import FaultContext
from chaos.runner.schedule import PlannedFault

Injection = Callable[[FaultContext], None]


def titled(title: str, inject: Callable[..., None], *given: Any) -> Injection:
    """Return the injection `inject(context, *given)` with this title."""

    def injection(context: FaultContext) -> None:
        inject(context, *given)

    injection.__doc__ = title
    return injection


@dataclass(frozen=True)
class Fault:
    """A fault. `inject` breaks something, waits, repairs it, and returns."""

    name: str
    inject: Injection
    lasts_s: float = 5.0  #: about how long `inject` takes, for the schedule
    moves_nothing: bool = False  #: I9: no portfolio may change owner or stop
    alone: bool = False  #: never together with a second fault
    is_load: bool = False  #: an ordinary operation rather than a fault

    @property
    def title(self) -> str:
        """First line of the injection's docstring."""
        return (self.inject.__doc__ or "").strip().splitlines()[0]

    @property
    def planned(self) -> PlannedFault:
        """What the schedule has to know of this fault."""
        return PlannedFault(self.name, self.lasts_s, self.alone, self.is_load)
