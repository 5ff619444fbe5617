"""Rules for Hypothesis, and for long random runs that choose by weight."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

EXPLORING = os.environ.get("HYPOTHESIS_PROFILE") == "explore"

#: Shrinking a long run would take minutes, so it is off in an ordinary run.
PHASES = tuple(Phase) if EXPLORING else (Phase.explicit, Phase.generate)


def act(weight: int, /, **options: Sequence[Any]) -> Callable[[Any], Any]:
    """Turn a method into a rule that `walk` chooses by `weight`. `options`: parameter → values."""

    def mark(method: Any) -> Any:
        drawn: dict[str, Any] = {name: st.sampled_from(options[name]) for name in options}
        made = rule(**drawn)(method)
        made.act = (weight, options)
        return made

    return mark


def acts_of(machine: type[RuleBasedStateMachine]) -> list[tuple[int, str, dict[str, Any]]]:
    """Return (weight, name, options) of every rule of a machine, by name."""
    marked = ((name, getattr(getattr(machine, name), "act", None)) for name in dir(machine))
    return [(found[0], name, found[1]) for name, found in marked if found is not None]


def walk(
    machine: RuleBasedStateMachine, seed: int, acts: int, after_each: Callable[[], None]
) -> None:
    """Run `acts` rules, chosen by weight: runs of Hypothesis stay near their initial state."""
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
