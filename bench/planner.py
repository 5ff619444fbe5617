"""Compare the planner with its peers.

    bin/bench planner [SECONDS FOR KAFKA] [WORLDS] [SECONDS PER WORLD]

Three comparisons, each on the same input in the same run:

- kafka-python's sticky assignor: equal portfolios, then one node lost or added. Targets: never more
  moves, never a higher load, faster at every size. It is stopped at its time limit.
- A greedy heap without names, labels, reasons or limits: a lower bound of the time of a decision.
- OR-tools CP-SAT on random fleets with weights, selectors, hard spread groups and unequal
  capacities: the lowest possible highest load with at most as many moves, and whether pending
  portfolios could have been placed.

Times are processor times: each comparison is one thread without I/O, so other load on the machine
affects both sides alike.

Prints JSON rows, and the table to stderr; writes planner.txt and planner.svg to the directory in
BENCH_OUT, if it is set. Exits 1 if a target is not met.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from bench.planner_greedy import against_greedy
from bench.planner_kafka import against_kafka
from bench.planner_optimum import against_optimum
from bench.result_table import given_numbers, planner_svg, report

SIZES = ((50, 10), (1_000, 50), (10_000, 200), (100_000, 1_000))


def main() -> None:
    kafka_s, worlds, cp_sat_s = given_numbers(60, 200, 5)
    rows = measure(kafka_s, worlds, cp_sat_s)
    report(rows, "planner", partial(planner_svg, limit_s=kafka_s))


def measure(kafka_s: int, worlds: int, cp_sat_s: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the three comparisons."""
    for count, node_count in SIZES:
        yield from against_kafka(count, node_count, kafka_s)
    yield from against_greedy(*SIZES[-1])
    yield from against_optimum(worlds, cp_sat_s)


if __name__ == "__main__":
    main()
