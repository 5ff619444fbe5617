"""Rules that Hypothesis picks from and that a long walk picks from by weight."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

EXPLORING = os.environ.get("HYPOTHESIS_PROFILE") == "explore"

#: A walk takes too long to be made shorter in an ordinary run: that would be minutes.
PHASES = tuple(Phase) if EXPLORING else (Phase.explicit, Phase.generate)


def act(weight: int, /, **options: Sequence[Any]) -> Callable[[Any], Any]:
    """Make a rule of a method, with what each of its parameters may be."""

    def mark(method: Any) -> Any:
        made = rule(**{name: st.sampled_from(values) for name, values in options.items()})(method)
        made.act = (weight, options)
        return made

    return mark


def acts_of(machine: type[RuleBasedStateMachine]) -> list[tuple[int, str, dict[str, Any]]]:
    """Return (weight, name, options) of every act of this machine, by name."""
    marked = ((name, getattr(getattr(machine, name), "act", None)) for name in dir(machine))
    return [(found[0], name, found[1]) for name, found in marked if found is not None]


def walk(
    machine: RuleBasedStateMachine, seed: int, acts: int, after_each: Callable[[], None]
) -> None:
    """Do `acts` acts by weight. Hypothesis' own walks stay near where they began."""
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
    """Return the same seeds every time, or new ones where new ones are looked for."""
    system = random.SystemRandom()
    return [system.randrange(2**32) if EXPLORING else n for n in range(1, count + 1)]
