"""Measure passes on a simulated fleet, in a separate process beside the watcher.

Prints one JSON object of milliseconds: the first snapshot, snapshots without changes, plans and
sweeps with nothing to do, and the time to request the failover of all portfolios of one node, fifty
at a time and one by one. The requests are rolled back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

import django

TIMES = 9
MAX_S = 10.0  #: time limit of the repetitions


def main() -> None:
    django.setup()
    from scheduling.decide.planner.planner import make_plan
    from scheduling.decide.types import Policy
    from scheduling.observe.snapshot import observe
    from scheduling.observe.snapshot_cache import SnapshotCache
    from scheduling.passes.balance import BATCH
    from scheduling.passes.sweep import sweep
    from scheduling.timing import timing

    times, cache = timing(), SnapshotCache()
    found = {"first": [time_ms(lambda: observe(times, cache))]}
    found["looks"] = repeat_ms(lambda: observe(times, cache))
    seen = observe(times, cache)
    found["plans"] = repeat_ms(lambda: make_plan(seen.snapshot, Policy(), seen.fleet_index))
    found["sweeps"] = repeat_ms(lambda: sweep("bench", times))
    found["urgent_sweeps"] = repeat_ms(lambda: sweep("bench", times, full=False))
    found["batched"], found["single"] = [], []
    for _ in range(3):
        found["batched"].append(request_ms(times, BATCH))
        found["single"].append(request_ms(times, 1))
    print(json.dumps(found))


def request_ms(times: Any, at_once: int) -> float:
    """Return the ms to request, `at_once` at a time, the failover of all portfolios of one node."""
    from django.db import transaction

    from scheduling.db.transaction import execute
    from scheduling.enact.handoff import Request, request_all
    from scheduling.models import Node, Run

    node, *others = Node.objects.filter(status="alive").order_by("id")
    requests = [
        Request("failover", owned.pk, target.pk, "measured", seen_epoch=owned.epoch)
        for owned, target in zip(Run.objects.filter(node=node), cycle(others))
    ]
    with transaction.atomic():
        took = time_ms(
            lambda: [
                execute(request_all(requests[n : n + at_once], actor="bench", timing=times))
                for n in range(0, len(requests), at_once)
            ]
        )
        transaction.set_rollback(True)
    return took


def repeat_ms(work: Callable[[], Any]) -> list[float]:
    """Return the ms of each call of `work`: of TIMES calls, or of those that MAX_S has time for."""
    until, took = time.perf_counter() + MAX_S, [time_ms(work)]
    while len(took) < TIMES and time.perf_counter() < until:
        took.append(time_ms(work))
    return took


def time_ms(work: Callable[[], Any]) -> float:
    """Return the ms of one call of `work`."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    main()
