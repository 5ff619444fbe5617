"""Random runs of a simulated world that choose its acts by weight."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import Phase

EXPLORING = os.environ.get("HYPOTHESIS_PROFILE") == "explore"

#: Shrinking a long run would take minutes, so it is off in an ordinary run.
PHASES = tuple(Phase) if EXPLORING else (Phase.explicit, Phase.generate)


def act(weight: int, /, **options: Sequence[Any]) -> Callable[[Any], Any]:
    """Let `walk` choose a method by `weight`. `options`: parameter → values to choose from."""

    def mark(method: Any) -> Any:
        method.act = (weight, options)
        return method

    return mark


def acts_of(machine: type) -> list[tuple[int, str, dict[str, Any]]]:
    """Return (weight, name, options) of every act of a machine, by name."""
    marked = ((name, getattr(getattr(machine, name), "act", None)) for name in dir(machine))
    return [(found[0], name, found[1]) for name, found in marked if found is not None]


def walk(machine: object, seed: int, acts: int, after_each: Callable[[], None]) -> None:
    """Do `acts` acts, chosen by weight.

    Not with Hypothesis: its runs stay near their initial state.
    """
    chance, done = random.Random(seed), []
    known = acts_of(type(machine))
    weights = [weight for weight, _, _ in known]
    try:
        for _ in range(acts):
            ((_, name, options),) = chance.choices(known, weights)
            given = {key: chance.choice(values) for key, values in options.items()}
            done.append(f"{name}({', '.join(f'{k}={v!r}' for k, v in given.items())})")
            getattr(machine, name)(**given)
            after_each()
    except Exception as error:
        last = "\n".join(done[-25:])
        raise AssertionError(
            f"seed {seed}, act {len(done)}: {error!s:.1500}\nafter\n{last}"
        ) from error


def seeds(count: int) -> list[int]:
    """Return `count` seeds: the same ones, or with HYPOTHESIS_PROFILE=explore new ones."""
    system = random.SystemRandom()
    return [system.randrange(2**32) if EXPLORING else n for n in range(1, count + 1)]
