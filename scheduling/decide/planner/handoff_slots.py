"""Limit the concurrent handoffs of each node, as source or target."""

from __future__ import annotations

from collections.abc import Sequence

from scheduling.decide.types import NodeView


class HandoffSlots:
    """Number of handoffs of each node, including those of the current plan."""

    def __init__(self, nodes: Sequence[NodeView], limit: int) -> None:
        self._taken = [node.handoffs for node in nodes]
        self._limit = limit
        #: Nodes that have reached the limit.
        self.full: set[int] = {node for node, taken in enumerate(self._taken) if taken >= limit}

    def take(self, node: int) -> None:
        """Count one more handoff. Failovers and placements may exceed the limit."""
        self._taken[node] += 1
        if self._taken[node] >= self._limit:
            self.full.add(node)

    def give_back(self, node: int) -> None:
        """Count one handoff fewer."""
        self._taken[node] -= 1
        if self._taken[node] < self._limit:
            self.full.discard(node)
