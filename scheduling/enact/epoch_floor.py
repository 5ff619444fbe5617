"""Raise the epoch floor after a restore or a promotion that lost commits.

Daemons that kept running have epochs, seqs, handoffs and desired sets from the lost history. So, in
one transaction: raise every epoch above those that the lost history can have granted; end every
ownership; make every node register again, which makes it drop its desired set; and skip the ids
that the lost history can have given out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.enact.audit_log import audit
from scheduling.enact.fleet_revoke import NOW, Revocation, is_wanted, lock_fleet, revoke_all
from scheduling.enact.notify import bump_desired_versions
from scheduling.enact.timeline import note_timeline, settle

#: By how much epochs are raised if nobody says otherwise: more grants of one portfolio than happen
#: between two backups.
DEFAULT_RAISE = 1_000_000

#: Delete the leases instead of ending them: a lease names the last incarnation that this database
#: knew. A daemon that started since then would be told that it was superseded, and exit.
DELETE_LEASES = Statement("DELETE_LEASES", "DELETE FROM scheduling_lease")

#: `left`, not `lost`: no node fell silent, and a heartbeat of a node that left is answered
#: `unknown`, upon which its daemon registers again and takes the desired set it is given.
MUST_REGISTER = Statement(
    "MUST_REGISTER",
    """
WITH locked AS MATERIALIZED (SELECT id FROM scheduling_node ORDER BY id FOR NO KEY UPDATE)
UPDATE scheduling_node n SET status = 'left', status_since = clock_timestamp(), leaving = false
FROM locked l WHERE n.id = l.id AND n.status IN ('alive', 'lost')
RETURNING n.id
""",
)

#: Skip ids of the lost history, which daemons and API clients may still send.
SKIP_IDS = Statement(
    "SKIP_IDS",
    """
SELECT x.table_name, setval(pg_get_serial_sequence(x.table_name, 'id'),
       nextval(pg_get_serial_sequence(x.table_name, 'id')) + %(by)s) AS last
FROM unnest(ARRAY['portfolios_portfolio', 'scheduling_handoff', 'scheduling_event',
                  'scheduling_halt']) AS x(table_name)
""",
)


@dataclass(frozen=True, slots=True)
class Raised:
    """One portfolio's epoch, before and after."""

    portfolio: str
    epoch_before: int
    epoch: int


def raise_epoch_floor(by: int, *, actor: str, reason: str = "") -> Transaction[Sequence[Raised]]:
    """Raise every epoch by `by` and end every ownership; what should run becomes pending.

    Return old and new epoch of every portfolio, including stopped and deleted ones.
    """
    fleet = yield from lock_fleet(leases=True)
    now = yield from query_one(NOW)
    assert now is not None
    epochs = yield from revoke_all(
        [_revocation(row) for row in fleet],
        raise_by=by,
        at=now.at,
        cause="floor",
        why=f"every epoch was raised by {by:,}",
        actor=actor,
    )
    yield from query(DELETE_LEASES)
    nodes = yield from query(MUST_REGISTER)
    skipped = yield from query(SKIP_IDS, by=by)
    last_ids = {row.table_name: row.last for row in skipped}
    yield from note_timeline(settled=True)
    yield from settle()
    yield from audit(
        "epoch_floor_raised",
        actor=actor,
        reason=reason,
        by=by,
        portfolios=len(fleet),
        # A portfolio with a higher id was created after this.
        last_portfolio=last_ids["portfolios_portfolio"],
    )
    yield from bump_desired_versions(row.id for row in nodes)
    return [Raised(row.name, row.epoch, epochs[row.portfolio_id]) for row in fleet]


def _revocation(row: Row) -> Revocation:
    """Return the new state of a run: pending or stopped if it had an owner, else unchanged."""
    phase, reason = row.phase, row.reason
    if row.node_id is not None:
        pending = ("pending", "waits for the next pass")
        phase, reason = pending if is_wanted(row) else ("stopped", "")
    return Revocation(
        row.portfolio_id, phase, reason, row.halt_id, Jsonb({"epoch_before": row.epoch})
    )
