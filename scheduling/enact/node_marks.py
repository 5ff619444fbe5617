"""What operators set on a node: drain, cordon and labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from scheduling.db.statements import IdRow, Statement
from scheduling.db.transaction import Transaction, query_one
from scheduling.enact.audit_log import audit
from scheduling.enact.notify import bump_desired_versions

#: Concurrent writers of all five: another operator, whose drain or cordon stays as it is; and the
#: node's daemon, whose registration may end a drain.
DRAIN = Statement(
    "DRAIN",
    """
UPDATE scheduling_node SET draining = true, drain_reason = %(reason)s, drain_actor = %(actor)s,
    drain_until_return = %(until_return)s
WHERE name = %(node)s AND NOT draining RETURNING id
""",
    row=IdRow,
)

_END_DRAIN = """
UPDATE scheduling_node SET draining = false, drain_reason = '', drain_actor = '',
    drain_until_return = false
WHERE name = %(node)s AND draining
"""

UNDRAIN = Statement("UNDRAIN", f"{_END_DRAIN} RETURNING id", row=IdRow)

TAKE_BACK = Statement(
    "TAKE_BACK",
    f"""{_END_DRAIN}
  AND drain_until_return AND drain_reason = %(reason)s AND drain_actor = %(actor)s RETURNING id
""",
    row=IdRow,
)

CORDON = Statement(
    "CORDON",
    """
UPDATE scheduling_node SET cordoned = true WHERE name = %(node)s AND NOT cordoned RETURNING id
""",
    row=IdRow,
)

UNCORDON = Statement(
    "UNCORDON",
    """
UPDATE scheduling_node SET cordoned = false WHERE name = %(node)s AND cordoned RETURNING id
""",
    row=IdRow,
)

#: Concurrent writers: another operator, and the daemon that registers with labels of its own. Then
#: the labels are not those that the edits were computed from, and nothing is written.
LABEL = Statement(
    "LABEL",
    """
UPDATE scheduling_node SET labels = %(labels)s::jsonb, label_edits = %(edits)s::jsonb
WHERE id = %(node)s AND labels = %(seen)s::jsonb AND reported_labels = %(reported)s::jsonb
RETURNING id
""",
    row=IdRow,
)


def drain(node: str, *, actor: str, reason: str, until_return: bool) -> Transaction[bool]:
    """Mark the node as draining. Return False if no node has this name, or it drains already.

    With `until_return`, the drain ends once the node's daemon has left and registers again.
    """
    row = yield from query_one(
        DRAIN, node=node, actor=actor[:150], reason=reason[:200], until_return=until_return
    )
    return (yield from _record(row, "node_draining", actor, reason))


def undrain(node: str, *, actor: str) -> Transaction[bool]:
    """End a drain of the node. Return False if it does not drain, or no node has this name."""
    row = yield from query_one(UNDRAIN, node=node)
    return (yield from _record(row, "node_undrained", actor))


def take_back_drain(node: str, *, actor: str, reason: str) -> Transaction[bool]:
    """End the drain that `drain(…, until_return=True)` began for this actor and reason, no other.

    Return False if it has ended already, or another drain took its place.
    """
    row = yield from query_one(TAKE_BACK, node=node, actor=actor[:150], reason=reason[:200])
    return (yield from _record(row, "node_undrained", actor))


def cordon(node: str, *, actor: str, reason: str) -> Transaction[bool]:
    """Place nothing new on the node. Return False if no node has this name, or it is cordoned."""
    row = yield from query_one(CORDON, node=node)
    return (yield from _record(row, "node_cordoned", actor, reason))


def uncordon(node: str, *, actor: str) -> Transaction[bool]:
    """Lift the cordon. Return False if the node is not cordoned, or no node has this name."""
    row = yield from query_one(UNCORDON, node=node)
    return (yield from _record(row, "node_uncordoned", actor))


def label(
    node: int,
    labels: Mapping[str, str],
    edits: Mapping[str, str | None],
    *,
    seen: Mapping[str, str],
    reported: Mapping[str, str],
    actor: str,
    reason: str,
) -> Transaction[bool]:
    """Store the labels of a node, and in `edits` what operators changed in them (None: removed).

    Return False, with nothing written, if the labels are no longer those that the operator has
    `seen`, or the daemon's are no longer those that it had `reported`.
    """
    row = yield from query_one(
        LABEL,
        node=node,
        labels=Jsonb(dict(labels)),
        edits=Jsonb(dict(edits)),
        seen=Jsonb(dict(seen)),
        reported=Jsonb(dict(reported)),
    )
    changes = {"before": dict(seen), "labels": dict(labels)}
    return (yield from _record(row, "node_labelled", actor, reason, **changes))


def _record(
    row: IdRow | None, kind: str, actor: str, reason: str = "", **data: Any
) -> Transaction[bool]:
    """Write the audit log and raise the node's desired version. Return False if `row` is None."""
    if row is None:
        return False
    yield from audit(kind, node=row.id, actor=actor, reason=reason, **data)
    yield from bump_desired_versions([row.id])
    return True
