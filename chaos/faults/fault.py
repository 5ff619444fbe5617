"""What a fault is: a name, what it does, how long it lasts, and whether anything may move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chaos.runner.fault_context import FaultContext
from chaos.runner.schedule import Planned


@dataclass(frozen=True)
class Fault:
    """One way to hurt the house. `act` strikes, waits, ends it, and returns."""

    name: str
    act: Callable[[FaultContext], None]
    lasts_s: float = 5.0
    moves_nothing: bool = False  #: I9: nothing may change hands or stop
    alone: bool = False  #: nothing else may be done to the house meanwhile
    is_load: bool = False

    @property
    def title(self) -> str:
        """What it does, in a sentence."""
        return (self.act.__doc__ or "").strip().splitlines()[0]

    @property
    def planned(self) -> Planned:
        """What the schedule knows of it."""
        return Planned(self.name, self.lasts_s, self.alone, self.is_load)
