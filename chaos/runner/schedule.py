"""What is done to the house, and in which order: a pure function of seed, minutes and faults.

How far a run comes depends on the machine; what it would do next does not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

SHORTEST = 0.3  #: the share of its usual time in which a fault may be over
SETTLING_S = 0.5  #: the least that the house needs to settle after a fault
PAIRED = 0.15  #: share of faults that take another one along
LOADED = 0.4  #: share of faults that are followed by a piece of ordinary load


@dataclass(frozen=True, order=True)
class Planned:
    """What the schedule knows of a fault."""

    name: str
    lasts_s: float = 5.0
    alone: bool = False  #: nothing else may be done to the house meanwhile
    is_load: bool = False  #: no fault, but what operators do every day


@dataclass(frozen=True)
class Step:
    """One or two things done at once; then the house has to settle."""

    number: int
    faults: tuple[str, ...]
    seed: int  #: of every choice that is made while it is done

    def as_text(self) -> str:
        """`12 kill-daemon + silence-long`"""
        return f"{self.number} {' + '.join(self.faults)}"


def schedule(seed: int, minutes: float, faults: Sequence[Planned]) -> list[Step]:
    """Return more steps than fit into `minutes`, so that the time alone ends a run.

    Each round has every fault once, in an order of its own. `faults` may come in any order.
    """
    steps, planned_s = [], 0.0
    lasts = {fault.name: fault.lasts_s for fault in faults}
    for step in _endless(seed, sorted(faults)):
        steps.append(step)
        planned_s += SHORTEST * max(lasts[name] for name in step.faults) + SETTLING_S
        if planned_s >= minutes * 60:
            break
    return steps


def _endless(seed: int, faults: list[Planned]) -> Iterator[Step]:
    rng = random.Random(f"ginkgo chaos {seed}")
    load = [fault for fault in faults if fault.is_load]
    real = [fault for fault in faults if not fault.is_load] or load
    numbers = count(1)
    while True:
        waiting = real.copy()
        rng.shuffle(waiting)
        while waiting:
            done = [waiting.pop(0)]
            partner = next((other for other in waiting if not other.alone), None)
            if partner and not done[0].alone and rng.random() < PAIRED:
                waiting.remove(partner)
                done.append(partner)
            yield _step(next(numbers), rng, done)
            if load and load is not real and rng.random() < LOADED:
                yield _step(next(numbers), rng, [rng.choice(load)])


def _step(number: int, rng: random.Random, faults: list[Planned]) -> Step:
    return Step(number, tuple(fault.name for fault in faults), rng.getrandbits(32))
