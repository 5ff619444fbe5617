"""Send hints. They are part of the transaction of the change, so no hint arrives before it."""

from __future__ import annotations

from collections.abc import Iterable

from scheduling.db.statements import NOTIFY_NODE, NOTIFY_WATCHERS, Statement
from scheduling.db.transaction import Transaction, query

TOUCH = Statement(
    "TOUCH",
    f"""
WITH locked AS (
    SELECT id FROM scheduling_node WHERE id = ANY(%(nodes)s::bigint[])
    ORDER BY id FOR NO KEY UPDATE
), touched AS (
    UPDATE scheduling_node n SET desired_version = n.desired_version + 1
    FROM locked WHERE n.id = locked.id
    RETURNING n.id, n.desired_version
)
SELECT {NOTIFY_NODE}
FROM touched
UNION ALL
SELECT {NOTIFY_WATCHERS}
""",
)

LOCK_NODES = Statement(
    "LOCK_NODES",
    """
SELECT id FROM scheduling_node WHERE id = ANY(%(nodes)s::bigint[]) ORDER BY id FOR NO KEY UPDATE
""",
)


def lock_nodes(nodes: Iterable[int | None]) -> Transaction[None]:
    """Lock, in order, the rows of all nodes that the transaction will change."""
    yield from query(LOCK_NODES, nodes=sorted({node for node in nodes if node is not None}))


def bump_desired_versions(nodes: Iterable[int | None]) -> Transaction[None]:
    """Raise the desired versions of `nodes` (None: no node); hint sockets, watcher and boards."""
    yield from query(TOUCH, nodes=sorted({node for node in nodes if node is not None}))


def notify_watchers() -> Transaction[None]:
    """Hint the watcher and the boards about a change that affects no node's desired set."""
    yield from bump_desired_versions(())
