"""Kept fresh by the watcher: what the loss of each node would come to, a slice of time a tick.

A plan for every node would take seconds in a large fleet. So each tick answers for as many nodes as
fit into its slice, in turn, and only where the fleet is another one than that of the node's answer.
"""

from __future__ import annotations

import time
from collections import deque

from psycopg.errors import DeadlockDetected, LockNotAvailable

from scheduling.db.transaction import execute
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.types import NodeView, Policy, Snapshot
from scheduling.decide.what_if.node_loss import (
    NodeLoss,
    forecast_node_loss,
    hosting_nodes,
    pending_ids,
)
from scheduling.enact.node_loss import Known, store
from scheduling.observe.snapshot_cache import SnapshotCache

SLICE_S = 0.025
#: What did not change is confirmed so often: an answer older than that, and a little, is old.
CONFIRM_S = 30.0


class Resilience:
    """The answers of one watcher, and what of them it has written down."""

    def __init__(self) -> None:
        self._fleet: object = None  #: all that an answer depends on
        self._version = 0  #: of the fleet
        self._turn: deque[int] = deque()  #: ids of the nodes, whose turn is next first
        self._answers: dict[int, tuple[int, Known]] = {}  #: node id → version of the fleet, answer
        self._written: dict[int, NodeLoss] = {}
        self._confirmed_at = float("-inf")

    def look(self, standing: SnapshotCache, slice_s: float = SLICE_S) -> None:
        """Answer for some nodes of the fleet that `standing` saw last, and write what changed."""
        snapshot = standing.snapshot
        if snapshot is None:
            return
        nodes = {node.id: node for node in hosting_nodes(snapshot)}
        self._follow(nodes, _all_that_matters(snapshot, standing))
        self._answer(nodes, snapshot, standing, slice_s)
        self._write(snapshot.taken_at)

    def _follow(self, nodes: dict[int, NodeView], fleet: object) -> None:
        if fleet != self._fleet:
            self._fleet, self._version = fleet, self._version + 1
        if nodes.keys() != set(self._turn):
            kept = [node for node in self._turn if node in nodes]
            self._turn = deque([*sorted(nodes.keys() - set(kept)), *kept])
            for node in self._answers.keys() - nodes.keys():
                del self._answers[node]

    def _answer(
        self,
        nodes: dict[int, NodeView],
        snapshot: Snapshot,
        standing: SnapshotCache,
        slice_s: float,
    ) -> None:
        stale = sum(self._is_stale(node) for node in self._turn)
        if not stale:
            return
        policy, stock = Policy(), standing.stock
        until = time.perf_counter() + slice_s
        already = pending_ids(make_plan(snapshot, policy, stock))
        while stale and self._turn:
            node = self._turn[0]
            self._turn.rotate(-1)
            if not self._is_stale(node):
                continue
            loss = forecast_node_loss(snapshot, nodes[node], stock, already, policy)
            self._answers[node] = (self._version, Known(loss, snapshot.taken_at))
            stale -= 1
            if time.perf_counter() >= until:
                return

    def _is_stale(self, node: int) -> bool:
        return node not in self._answers or self._answers[node][0] != self._version

    def _write(self, now: float) -> None:
        """Write down what changed, and now and then that the rest is as it was."""
        confirm = not 0 <= now - self._confirmed_at < CONFIRM_S
        known = [
            # What was true of this very fleet is true now.
            Known(answer.loss, now) if version == self._version else answer
            for version, answer in self._answers.values()
        ]
        news = known if confirm else [k for k in known if self._written.get(k.loss.node) != k.loss]
        if not (news or confirm or self._written.keys() - self._answers.keys()):
            return
        try:
            execute(store(news, self._answers.keys()))
        except (LockNotAvailable, DeadlockDetected):
            return  # another watcher does the same
        self._written = {k.loss.node: k.loss for k in known}
        if confirm:
            self._confirmed_at = now


def _all_that_matters(snapshot: Snapshot, standing: SnapshotCache) -> object:
    """Return what is equal as long as every answer stays the same."""
    now = snapshot.taken_at
    flapping = {n.name for n in snapshot.nodes if n.flapping_until and now < n.flapping_until}
    backing_off = {
        p.id
        for p in standing.stock.unsettled.values()
        if p.not_before is not None and now < p.not_before
    }
    return (
        standing.version,
        snapshot.nodes,
        (snapshot.frozen, snapshot.frozen_failover),
        (snapshot.storm_hold, snapshot.storm_by, snapshot.storm_late, snapshot.after_storm),
        flapping,
        backing_off,
    )
