"""Handoffs at a time: a node is source or target of only so many."""

from __future__ import annotations

from collections.abc import Sequence

from scheduling.decide.types import NodeView


class HandoffSlots:
    """How many handoffs each node takes part in, those of the plan under way included."""

    def __init__(self, nodes: Sequence[NodeView], most: int) -> None:
        self._taken = [node.handoffs for node in nodes]
        self._most = most
        #: The nodes that may take part in no further one.
        self.full: set[int] = {node for node, taken in enumerate(self._taken) if taken >= most}

    def take(self, node: int) -> None:
        """Count one handoff more. Failovers and placements may take more than there are."""
        self._taken[node] += 1
        if self._taken[node] >= self._most:
            self.full.add(node)

    def give_back(self, node: int) -> None:
        """Count one handoff less."""
        self._taken[node] -= 1
        if self._taken[node] < self._most:
            self.full.discard(node)
