"""The newest losses of nodes, and what became of the portfolios of each, as counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from scheduling.db.statements import ACTIVE_HANDOFF_STATES
from scheduling.observe.view_fields import same_named

MAX_RECENT_LOSSES = 12
MAX_MOVES = 8  #: moves that are listed for a node that is lost now; the others are only counted


@dataclass(frozen=True, slots=True)
class MoveView:
    """A portfolio that got a new owner after the loss of its node."""

    portfolio: str
    target: str
    pause_ms: float | None


@dataclass(frozen=True, slots=True)
class NodeLossView:
    """One loss of one node."""

    node: str
    node_id: int
    at: datetime
    is_over: bool  #: the node came back, left, or was lost again
    reason: str  #: empty, unless this is the newest loss of its node
    why: Mapping[str, Any] | None  #: the data of `reason`
    portfolios: int | None  #: number that the node ran when it was lost; None: not recorded
    moved: int  #: of these, how many have a new owner
    moving: int  #: of these, how many are in a handoff
    moved_at: datetime | None  #: when the last new owner made its first commit
    slowest_ms: float | None  #: the longest pause
    targets: list[str]
    moves: list[MoveView]  #: at most MAX_MOVES, and only while the node is lost


#: Every present loss and the newest others, with counts of the failovers that each began.
LOSSES = f"""
WITH each AS (
    -- The newest 12 losses of each node, since one may flap; the array is sorted.
    SELECT n.id, n.name, n.status, n.status_since, n.lost_reason, n.lost_why,
           to_timestamp(x.value::text::float8) AS at,
           lead(to_timestamp(x.value::text::float8)) OVER (PARTITION BY n.id ORDER BY x.place)
               AS next_at
    FROM scheduling_node n
    CROSS JOIN LATERAL jsonb_array_elements(
        jsonb_path_query_array(n.lost_times, '$[last - 11 to last]')
    ) WITH ORDINALITY AS x(value, place)
), chosen AS (
    SELECT e.*, e.status = 'lost' AND e.next_at IS NULL AS is_now,
           row_number() OVER (ORDER BY e.at DESC) AS nth
    FROM each e
)
SELECT c.name AS node, c.at, NOT c.is_now AS is_over,
       CASE WHEN c.next_at IS NULL THEN c.lost_reason ELSE '' END AS reason,
       CASE WHEN c.next_at IS NULL THEN c.lost_why END AS why,
       CASE WHEN c.next_at IS NULL THEN (c.lost_why #>> '{{params,portfolios}}')::int END
           AS portfolios,
       f.moved, f.moving, f.moved_at, f.slowest_ms, f.targets, c.id AS node_id,
       c.is_now, c.next_at
FROM chosen c
CROSS JOIN LATERAL (
    SELECT count(DISTINCT h.portfolio_id) FILTER (WHERE h.state = 'done')::int AS moved,
           count(DISTINCT h.portfolio_id) FILTER (WHERE h.state IN {ACTIVE_HANDOFF_STATES})::int
               AS moving,
           max(h.finished_at) FILTER (WHERE h.state = 'done') AS moved_at,
           max(h.pause_ms) FILTER (WHERE h.state = 'done') AS slowest_ms,
           coalesce(array_agg(DISTINCT t.name::text) FILTER (WHERE h.state = 'done'), '{{}}')
               AS targets
    FROM scheduling_handoff h LEFT JOIN scheduling_node t ON t.id = h.target_node_id
    -- The time of the status is a few microseconds before that of the loss.
    WHERE h.source_node_id = c.id AND h.kind = 'failover'
      AND h.requested_at >= c.at - interval '1 ms'
      AND (c.next_at IS NULL OR h.requested_at < c.next_at - interval '1 ms')
) f
WHERE c.is_now OR c.nth <= %(most)s
ORDER BY c.at DESC, c.name
"""
#: Where portfolios of nodes that are lost now went, some of them by name.
MOVES = """
SELECT l.node, m.portfolio, m.target, m.pause_ms
FROM unnest(%(nodes)s::bigint[], %(since)s::timestamptz[]) AS l(node, since)
CROSS JOIN LATERAL (
    SELECT p.name AS portfolio, t.name AS target, h.pause_ms
    FROM scheduling_handoff h
    JOIN portfolios_portfolio p ON p.id = h.portfolio_id
    JOIN scheduling_node t ON t.id = h.target_node_id
    WHERE h.source_node_id = l.node AND h.kind = 'failover' AND h.state = 'done'
      AND h.requested_at >= l.since - interval '1 ms'
    ORDER BY p.priority DESC, p.name LIMIT %(most)s
) m
"""


def read_losses(cursor: psycopg.Cursor[Any]) -> list[NodeLossView]:
    """Return the loss of every lost node and the newest others. At most two statements."""
    rows = cursor.execute(LOSSES.encode(), {"most": MAX_RECENT_LOSSES}).fetchall()
    lost = [row for row in rows if row.is_now]
    moves: dict[int, list[MoveView]] = {}
    if lost:
        wanted = {
            "nodes": [row.node_id for row in lost],
            "since": [row.at for row in lost],
            "most": MAX_MOVES,
        }
        for row in cursor.execute(MOVES, wanted).fetchall():
            moves.setdefault(row.node, []).append(MoveView(row.portfolio, row.target, row.pause_ms))
    return [
        NodeLossView(
            **same_named(NodeLossView, row), moves=moves.get(row.node_id, []) if row.is_now else []
        )
        for row in rows
    ]
