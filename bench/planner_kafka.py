"""Compare with kafka-python's sticky assignor: equal portfolios, then one node lost or added.

The time of kafka is that of `assign()`, given the previous assignment. The time of Ginkgo is that
of every plan that changes something, with the updates of the fleet index that earlier passes left;
for the initial plan it includes building the index. The final empty plan is not counted.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import resource
import statistics
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from bench.planner_fixtures import converge, empty_fleet, highest_load, node, warm_index
from bench.result_table import median_row, row
from scheduling.decide.what_if.hypothetical import lose

MAX_BYTES = 6 * 2**30  #: memory of kafka-python's process
TIMES = 7  #: plans of Ginkgo for each event
EVENTS = {
    "initial": "first plan, index included",
    "lost": "plan after one node lost, index kept",
    "added": "plan after one node added, index kept",
}
#: Target speed relative to kafka-python, by event and number of portfolios.
FASTER = {("lost", 1_000): 100, ("lost", 10_000): 400}


def against_kafka(count: int, node_count: int, limit_s: int) -> Iterator[dict[str, Any]]:
    """Yield time, moves and highest load of the three events, Ginkgo's against kafka's."""
    setup = f"{count:,} on {node_count:,}"
    theirs = run_limited(_kafka_figures, (count, node_count), limit_s)  # no event beyond it
    world = empty_fleet(count, node_count)
    first = converge(world).end
    added = replace(first, nodes=(*first.nodes, node(node_count + 1, first.nodes[0].capacity)))
    worlds = {"initial": world, "lost": lose(first, ["node-0001"]), "added": added}
    for event, name in EVENTS.items():
        snapshot, peer = worlds[event], theirs.get(event)
        times = []
        for _ in range(TIMES):
            index = None if event == "initial" else warm_index(first)
            gc.collect()
            found = converge(snapshot, index)
            times.append(found.took_ms)
        note = "" if peer else f"kafka-python had no answer after {limit_s} s: skipped"
        faster, took = FASTER.get((event, count), 1), statistics.median(times)
        yield median_row(
            setup,
            name,
            times,
            "ms",
            against=peer and peer["ms"],
            target=f"≥ {faster} × faster" if faster > 1 else "faster",
            met=took * faster <= peer["ms"] if peer else None,
            note=note,
        )
        for figure, label, value, unit, target in (
            ("moves", "moves", found.moves, "moves", "never more"),
            ("max", "highest load", highest_load(found.end), "places", "never higher"),
        ):
            yield row(
                setup,
                f"{label}, {event}",
                value,
                unit,
                against=peer and peer[figure],
                target=target,
                met=value <= peer[figure] if peer else None,
                note=note,
            )


def run_limited(work: Callable[..., Iterator[Any]], given: tuple[Any, ...], limit_s: int) -> Any:
    """Return the pairs that `work` yields within `limit_s` of processor time, as a dict.

    It runs in a separate process with limits on time and memory: 100,000 partitions take gigabytes.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_send_all, args=(theirs, work, given, limit_s)
    )
    process.start()
    theirs.close()
    found = {}
    try:
        while True:
            key, value = ours.recv()
            found[key] = value
    except EOFError:
        process.join()
    return found


def _send_all(
    pipe: Any, work: Callable[..., Iterator[Any]], given: tuple[Any, ...], limit_s: int
) -> None:
    """Send what `work` yields into `pipe`, until this process reaches a limit of time or memory."""
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    try:
        for pair in work(*given):
            pipe.send(pair)
    except MemoryError:
        pass  # treated as no answer


def _kafka_figures(count: int, node_count: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield (key of EVENTS, kafka's {ms, moves, max}) for each."""
    from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

    logging.disable(logging.CRITICAL)
    member = namedtuple("member", "member_id metadata group_instance_id")

    class Cluster:
        def topics(self) -> set[str]:
            return {"t"}

        def partitions_for_topic(self, _: str) -> set[int]:
            return set(range(count))

    def assign(
        names: list[str], before: dict[str, list[Any]]
    ) -> tuple[dict[str, list[Any]], float]:
        assignor = StickyPartitionAssignor()
        members = [
            member(name, assignor._metadata({"t"}, before.get(name), 1), None) for name in names
        ]
        began = time.process_time()
        answer = assignor.assign(Cluster(), members)
        took_s = time.process_time() - began
        return {name: answer[name].partitions() for name in names}, took_s

    names = [f"n{number:04}" for number in range(node_count)]
    first, took_s = assign(names, {})
    yield "initial", _figures({}, first, took_s)
    for event, these in (("lost", names[1:]), ("added", [*names, "new"])):
        after, took_s = assign(these, first)
        yield event, _figures(first, after, took_s)


def _figures(
    before: dict[str, list[Any]], after: dict[str, list[Any]], took_s: float
) -> dict[str, float]:
    """Return the figures of an assignment. A partition that had no node counts as moved."""
    was = {partition: name for name, held in before.items() for partition in held}
    moves = sum(was.get(p) != name for name, held in after.items() for p in held)
    return {"ms": took_s * 1000, "moves": moves, "max": max(map(len, after.values()))}
