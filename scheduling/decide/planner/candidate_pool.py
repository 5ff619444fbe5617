"""Nodes sorted by load, for one set of requirements."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush, heapreplace

#: Tolerance of load comparisons, so that rounding of weights like 0.1 decides nothing.
SLACK = 1e-9

#: Divisor used for nodes of capacity 0, which hold nothing.
NO_CAPACITY = 1e-9


class CandidatePool:
    """Nodes that meet one set of requirements, best first, in one heap per capacity.

    Within one capacity "least loaded" and "most room" are the same order, so the top of a heap is
    its best candidate whatever the weight. Not so in a pool made with `counts`, or with a `held`
    that is not its `load`: there, nodes at the top that are full are passed over.

    Entries are corrected when they reach the top: an entry whose load rose is sorted in again; for
    a load that fell, `load_decreased` adds a second, better entry.

    Nodes are indices in the order of node names, so ties go to the lower name.
    """

    __slots__ = ("_capacity", "_counts", "_drop_below", "_heaps", "_held", "_load", "nodes")

    def __init__(
        self,
        nodes: Iterable[int],
        capacity: Sequence[float],
        load: Sequence[float],
        held: Sequence[float],
        counts: Mapping[int, int] | None = None,
        drop_below: float = 0,
    ) -> None:
        """Sort `nodes` by `counts` (node → members of one spread group), if given, then by `load`.

        `capacity`, `load` and `held` are in places, by node, and are read again at each choice.
        `load`, which may count planned moves, is compared; `held` decides which nodes are full. A
        node found with fewer than `drop_below` places free leaves the pool for good.
        """
        self.nodes = frozenset(nodes)
        self._capacity = capacity
        self._load = load
        self._held = held
        self._counts = counts
        self._drop_below = drop_below
        heaps: dict[float, list[tuple[int, float, int]]] = {}
        for node in self.nodes:
            heaps.setdefault(capacity[node], []).append(self._entry(node))
        for heap in heaps.values():
            heapify(heap)
        self._heaps = sorted(heaps.items())

    def best(
        self, weight: float, avoid: Collection[int] = (), most_loaded: float | None = None
    ) -> int | None:
        """Return the node that is least loaded with `weight` added, or None if none has room.

        Loads are relative to the capacity. Nodes in `avoid` are skipped, and those whose present
        load is above `most_loaded`. In a pool with `counts`, a node with fewer group members goes
        before one with a lower load, and `most_loaded` cannot be used.
        """
        held = self._held
        chosen: tuple[int, float, int] | None = None
        for capacity, heap in self._heaps:
            divisor = capacity or NO_CAPACITY
            set_aside: list[tuple[int, float, int]] = []
            while self._correct_top(heap):
                count, load, node = heap[0]
                if most_loaded is not None and load / divisor > most_loaded:
                    break
                free = capacity - held[node] + SLACK
                if free < self._drop_below:
                    heappop(heap)
                elif node in avoid:
                    set_aside.append(heappop(heap))
                elif free < weight:
                    if held is self._load and self._counts is None:  # the top has the most room
                        break  # if the least loaded node is too full, so are the others
                    set_aside.append(heappop(heap))
                else:
                    candidate = (count, (load + weight) / divisor, node)
                    if chosen is None or candidate < chosen:
                        chosen = candidate
                    break
            for entry in set_aside:
                heappush(heap, entry)
        return None if chosen is None else chosen[2]

    def lowest_relative_load(self) -> float | None:
        """Return the lowest relative load in the pool, or None if it is empty."""
        tops = [
            heap[0][1] / (capacity or NO_CAPACITY)  # [1]: the load in an entry
            for capacity, heap in self._heaps
            if self._correct_top(heap)
        ]
        return min(tops, default=None)

    def load_decreased(self, node: int) -> None:
        """Record that the load of `node` decreased."""
        if node not in self.nodes:
            return
        heap = next(heap for capacity, heap in self._heaps if capacity == self._capacity[node])
        heappush(heap, self._entry(node))

    def _entry(self, node: int) -> tuple[int, float, int]:
        """Return the node's entry, by which a heap is sorted: (group members, load, node)."""
        count = 0 if self._counts is None else self._counts.get(node, 0)
        return (count, self._load[node], node)

    def _correct_top(self, heap: list[tuple[int, float, int]]) -> bool:
        """Bring an up-to-date entry to the top. Return False if the heap is empty."""
        while heap:
            actual = self._entry(heap[0][2])
            if heap[0] == actual:
                return True
            if heap[0] < actual:
                heapreplace(heap, actual)
            else:
                heappop(heap)  # its load fell, and `load_decreased` added the better entry
        return False
