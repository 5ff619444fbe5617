"""What the passes cost on a simulated fleet, measured in a process of their own beside the watcher.

Prints one JSON object, milliseconds each: the first look at the fleet, looks at which nothing had
changed, plans with nothing to do, and sweeps with nothing to do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import django

TIMES = 9


def main() -> None:
    django.setup()
    from scheduling.decide.planner import make_plan
    from scheduling.decide.world import Policy
    from scheduling.enact.timing import timing
    from scheduling.observe.snapshot import observe
    from scheduling.observe.standing import Standing
    from scheduling.passes.sweep import sweep

    times, standing = timing(), Standing()
    first = took_ms(lambda: observe(times, standing))
    looks = [took_ms(lambda: observe(times, standing)) for _ in range(TIMES)]
    seen = observe(times, standing)
    plans = [took_ms(lambda: make_plan(seen.snapshot, Policy(), seen.stock)) for _ in range(TIMES)]
    sweeps = [took_ms(lambda: sweep("bench", times)) for _ in range(TIMES)]
    print(json.dumps({"first": [first], "looks": looks, "plans": plans, "sweeps": sweeps}))


def took_ms(work: Callable[[], Any]) -> float:
    """Return how long `work` took."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    main()
