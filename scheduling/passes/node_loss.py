"""Node-loss forecasts, kept up to date by the watcher within a time slice of each tick.

Planning the loss of every node takes seconds in a large fleet. Each tick therefore computes as many
forecasts as fit into its slice, in turn, and only those that a change of the fleet has outdated.
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
from scheduling.enact.node_loss import StoredForecast, store
from scheduling.observe.snapshot_cache import SnapshotCache

TIME_SLICE_S = 0.025
#: All forecasts are stored again this often, so that one with an older time is known to be stale.
CONFIRM_INTERVAL_S = 30.0


class NodeLossForecaster:
    """The forecasts of one watcher, and which of them it has stored."""

    def __init__(self) -> None:
        self._inputs: object = None  #: everything a forecast depends on
        self._version = 0  #: of `_inputs`
        self._turn: deque[int] = deque()  #: node ids, next turn first
        #: Node id → version of the inputs, forecast.
        self._forecasts: dict[int, tuple[int, StoredForecast]] = {}
        self._stored: dict[int, NodeLoss] = {}  #: node id → loss in the database
        self._confirmed_at = float("-inf")

    def refresh(self, cache: SnapshotCache, slice_s: float = TIME_SLICE_S) -> None:
        """Compute forecasts for some nodes of the last snapshot, and store what changed."""
        snapshot = cache.snapshot
        if snapshot is None:
            return
        nodes = {node.id: node for node in hosting_nodes(snapshot)}
        self._note_changes(nodes, _forecast_inputs(snapshot, cache))
        self._renew_stale_forecasts(nodes, snapshot, cache, slice_s)
        self._store_changes(snapshot.taken_at)

    def _note_changes(self, nodes: dict[int, NodeView], inputs: object) -> None:
        """Make all forecasts stale if `inputs` changed; queue exactly `nodes`, new ones first."""
        if inputs != self._inputs:
            self._inputs, self._version = inputs, self._version + 1
        if nodes.keys() != set(self._turn):
            kept = [node for node in self._turn if node in nodes]
            self._turn = deque([*sorted(nodes.keys() - set(kept)), *kept])
            for node in self._forecasts.keys() - nodes.keys():
                del self._forecasts[node]

    def _renew_stale_forecasts(
        self, nodes: dict[int, NodeView], snapshot: Snapshot, cache: SnapshotCache, slice_s: float
    ) -> None:
        """Forecast the loss of nodes whose forecast is stale, in turn, for `slice_s`."""
        stale = sum(self._is_stale(node) for node in self._turn)
        if not stale:
            return
        policy, index = Policy(), cache.fleet_index
        until = time.perf_counter() + slice_s
        already_pending = pending_ids(make_plan(snapshot, policy, index))
        while stale and self._turn:
            node = self._turn[0]
            self._turn.rotate(-1)
            if not self._is_stale(node):
                continue
            loss = forecast_node_loss(snapshot, nodes[node], index, already_pending, policy)
            self._forecasts[node] = (self._version, StoredForecast(loss, snapshot.taken_at))
            stale -= 1
            if time.perf_counter() >= until:
                return

    def _is_stale(self, node: int) -> bool:
        return node not in self._forecasts or self._forecasts[node][0] != self._version

    def _store_changes(self, now: float) -> None:
        """Store the changed forecasts, and every CONFIRM_INTERVAL_S all of them with a new time."""
        # Also if `now` is before the last time: the clock was set back.
        confirm = not 0 <= now - self._confirmed_at < CONFIRM_INTERVAL_S
        forecasts = [
            # A forecast from the current inputs still holds.
            StoredForecast(forecast.loss, now) if version == self._version else forecast
            for version, forecast in self._forecasts.values()
        ]
        changed = [each for each in forecasts if self._stored.get(each.loss.node) != each.loss]
        nodes_gone = self._stored.keys() - self._forecasts.keys()
        if not (changed or confirm or nodes_gone):
            return
        try:
            execute(store(forecasts if confirm else changed, self._forecasts.keys()))
        except (LockNotAvailable, DeadlockDetected):
            return  # another watcher stores the same
        self._stored = {each.loss.node: each.loss for each in forecasts}
        if confirm:
            self._confirmed_at = now


def _forecast_inputs(snapshot: Snapshot, cache: SnapshotCache) -> object:
    """Return everything a forecast depends on: equal inputs give equal forecasts."""
    now = snapshot.taken_at
    flapping = {n.name for n in snapshot.nodes if n.flapping_until and now < n.flapping_until}
    backing_off = {
        p.id
        for p in cache.fleet_index.unsettled.values()
        if p.not_before is not None and now < p.not_before
    }
    return (
        cache.version,
        snapshot.nodes,
        (snapshot.frozen, snapshot.frozen_failover),
        (snapshot.storm_hold, snapshot.storm_by, snapshot.storm_late, snapshot.after_storm),
        flapping,
        backing_off,
    )
