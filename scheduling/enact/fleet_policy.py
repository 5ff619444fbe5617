"""The operators' settings for the whole fleet: the freeze, and what a rebalance evens out."""

from __future__ import annotations

from scheduling.db.statements import IdRow, Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.enact.audit_log import audit
from scheduling.enact.notify import bump_desired_versions

#: Concurrent writer: another operator. The later one's reason and extent hold.
FREEZE = Statement(
    "FREEZE",
    """
INSERT INTO scheduling_control AS c (id, frozen_at, frozen_by, frozen_reason, freeze_failover)
VALUES (1, clock_timestamp(), %(actor)s, %(reason)s, %(failover)s)
ON CONFLICT (id) DO UPDATE SET frozen_at = excluded.frozen_at, frozen_by = excluded.frozen_by,
    frozen_reason = excluded.frozen_reason, freeze_failover = excluded.freeze_failover
""",
)

#: Concurrent writer: another operator who lifts it. Only one of the two writes the audit log.
UNFREEZE = Statement(
    "UNFREEZE",
    """
UPDATE scheduling_control SET frozen_at = NULL, frozen_by = '', frozen_reason = '',
    freeze_failover = false
WHERE id = 1 AND frozen_at IS NOT NULL RETURNING id
""",
    row=IdRow,
)

#: Concurrent writer: another operator. The later choice holds.
EVEN_BY = Statement(
    "EVEN_BY",
    """
INSERT INTO scheduling_control AS c (id, frozen_by, frozen_reason, freeze_failover, even_by)
SELECT 1, '', '', false, %(measure)s::text
-- Without a row the measure is the weight.
WHERE %(measure)s::text <> 'weight' OR EXISTS (SELECT FROM scheduling_control WHERE id = 1)
ON CONFLICT (id) DO UPDATE SET even_by = excluded.even_by WHERE c.even_by <> excluded.even_by
RETURNING c.id
""",
    row=IdRow,
)

EVERY_NODE = Statement("EVERY_NODE", "SELECT id FROM scheduling_node", row=IdRow)


def freeze(*, actor: str, reason: str, failover: bool) -> Transaction[None]:
    """Freeze: stop all automatic moves, with `failover` true also failovers."""
    yield from query(FREEZE, actor=actor[:150], reason=reason[:200], failover=failover)
    yield from audit("frozen", actor=actor, reason=reason, failover=failover)
    yield from bump_every_desired_version()


def unfreeze(*, actor: str) -> Transaction[bool]:
    """Lift the freeze. Return False if there is none."""
    if (yield from query_one(UNFREEZE)) is None:
        return False
    yield from audit("unfrozen", actor=actor)
    yield from bump_every_desired_version()
    return True


def choose_rebalance_measure(measure: str, *, actor: str, reason: str) -> Transaction[bool]:
    """Rebalance by `measure` from the next pass on. Return False if it was chosen already."""
    if (yield from query_one(EVEN_BY, measure=measure)) is None:
        return False
    yield from audit("even_by", actor=actor, reason=reason, even_by=measure)
    return True


def bump_every_desired_version() -> Transaction[None]:
    """Raise the desired version of every node, so that all of them fetch what has changed."""
    nodes = yield from query(EVERY_NODE)
    yield from bump_desired_versions([row.id for row in nodes])
