"""kafka-python's sticky assignor on the same input: equal portfolios, one node lost, one more."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from bench.planner_rows import row
from bench.planner_worlds import fleet, highest, node, settled
from scheduling.decide.imagined import lose


def against_kafka(count: int, node_count: int, limit_s: float) -> Iterator[dict[str, Any]]:
    """Yield time, moves and highest load of the three events, ours against kafka's."""
    size = f"{count} on {node_count}"
    theirs = in_time(_kafka, (count, node_count), limit_s)
    world = fleet(count, node_count)
    first, _, _ = settled(world)
    more = replace(first, nodes=(*first.nodes, node(node_count + 1, first.nodes[0].capacity)))
    events = {"initial": world, "lost": lose(first, ["node-0001"]), "added": more}
    for event, snapshot in events.items():
        times = []
        for _ in range(3):
            gc.collect()
            end, moves, took_s = settled(snapshot)
            times.append(took_s * 1000)
        load, path = highest(end), f"{event}, {size}"
        peer = theirs.get(event)
        note = "" if peer else f"kafka-python had no answer after {limit_s:g} s: skipped"
        spread = [round(min(times), 3), round(max(times), 3)]
        took = statistics.median(times)
        yield row(
            path,
            "plan",
            took,
            "ms",
            spread=spread,
            against=peer and peer["ms"],
            target="faster than kafka-python",
            met=took < peer["ms"] if peer else None,
            note=note,
        )
        yield row(
            path,
            "moves",
            moves,
            "",
            against=peer and peer["moves"],
            target="never more",
            met=moves <= peer["moves"] if peer else None,
            note=note,
        )
        yield row(
            path,
            "highest load",
            load,
            "places",
            against=peer and peer["max"],
            target="never higher",
            met=load <= peer["max"] if peer else None,
            note=note,
        )


def in_time(work: Callable[..., Iterator[Any]], given: tuple[Any, ...], limit_s: float) -> Any:
    """Return what `work` yielded within the limit, as a dict; it is ended after that.

    In a process of its own: 100,000 partitions cost it gigabytes.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_send_all, args=(theirs, work, given)
    )
    process.start()
    theirs.close()
    until, found = time.monotonic() + limit_s, {}
    try:
        while ours.poll(max(0.0, until - time.monotonic())):
            key, value = ours.recv()
            found[key] = value
    except EOFError:
        pass
    process.kill()
    process.join()
    return found


def _send_all(pipe: Any, work: Callable[..., Iterator[Any]], given: tuple[Any, ...]) -> None:
    for pair in work(*given):
        pipe.send(pair)


def _kafka(count: int, node_count: int) -> Iterator[tuple[str, dict[str, float]]]:
    import logging
    from collections import namedtuple

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
        began = time.perf_counter()
        answer = assignor.assign(Cluster(), members)
        took_s = time.perf_counter() - began
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
    was = {partition: name for name, held in before.items() for partition in held}
    moves = sum(was.get(p) != name for name, held in after.items() for p in held)
    return {"ms": took_s * 1000, "moves": moves, "max": max(map(len, after.values()))}
