"""The schedule of a run: a pure function of seed, minutes and faults.

How many of its steps a run completes depends on the machine; their order does not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

SHORTEST = 0.3  #: least duration of a fault, as a share of its usual one
SETTLING_S = 0.5  #: least time of convergence after a fault
PAIRED = 0.15  #: share of faults injected together with a second one
LOADED = 0.4  #: share of faults followed by an ordinary operation


@dataclass(frozen=True, order=True)
class PlannedFault:
    """What the schedule has to know of a fault."""

    name: str
    lasts_s: float = 5.0
    alone: bool = False  #: never together with a second fault
    is_load: bool = False  #: an ordinary operation rather than a fault


@dataclass(frozen=True)
class ScheduledStep:
    """One or two faults injected at once, followed by a wait for convergence."""

    number: int
    faults: tuple[str, ...]
    seed: int  #: of every random choice within the step

    def as_text(self) -> str:
        """Format as `12 kill-daemon + silence-long`."""
        return f"{self.number} {' + '.join(self.faults)}"


def schedule(seed: int, minutes: float, faults: Sequence[PlannedFault]) -> list[ScheduledStep]:
    """Return more steps than fit into `minutes`, so that only the time ends a run; [] if no faults.

    Each round has every fault once, in random order. The order of `faults` has no effect.
    """
    steps, planned_s = [], 0.0
    lasts = {fault.name: fault.lasts_s for fault in faults}
    for step in _endless(seed, sorted(faults)):
        steps.append(step)
        planned_s += SHORTEST * max(lasts[name] for name in step.faults) + SETTLING_S
        if planned_s >= minutes * 60:
            break
    return steps


def _endless(seed: int, faults: list[PlannedFault]) -> Iterator[ScheduledStep]:
    """Yield steps without end, or none if there are no faults.
    Each round has every fault once, some in pairs, some followed by an ordinary operation."""
    rng = random.Random(f"ginkgo chaos {seed}")
    operations = [fault for fault in faults if fault.is_load]
    # A run of operations only treats them as its faults.
    real = [fault for fault in faults if not fault.is_load] or operations
    numbers = count(1)
    while real:
        waiting = real.copy()
        rng.shuffle(waiting)
        while waiting:
            chosen = [waiting.pop(0)]
            partner = next((other for other in waiting if not other.alone), None)
            if partner and not chosen[0].alone and rng.random() < PAIRED:
                waiting.remove(partner)
                chosen.append(partner)
            yield _step(next(numbers), rng, chosen)
            if operations and real is not operations and rng.random() < LOADED:
                yield _step(next(numbers), rng, [rng.choice(operations)])


def _step(number: int, rng: random.Random, faults: list[PlannedFault]) -> ScheduledStep:
    return ScheduledStep(number, tuple(fault.name for fault in faults), rng.getrandbits(32))
