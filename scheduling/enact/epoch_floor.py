"""After a restore or a promotion: outside may be more than this database knows. Rise above it.

Daemons that ran on hold epochs, seqs, handoffs and desired sets from a history that is lost here.
So, in one transaction: every epoch goes up by more than could have been granted since; nobody owns
anything; every node has to register again, which makes it forget the set it has; and ids that
were given out since are never given out again.
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

ENOUGH = 1_000_000  #: more grants of one portfolio than anybody makes between two backups

#: Deleted, not ended: a lease names the incarnation that this database knew last. A daemon that
#: started since then would be told that it was superseded, and end for good.
DELETE_LEASES = Statement("DELETE_LEASES", "DELETE FROM scheduling_lease")

#: `left`, not `lost`: nobody fell silent, and a beat of a node that left is answered `unknown`,
#: on which its daemon registers again and takes whatever set it is given.
MUST_REGISTER = Statement(
    "MUST_REGISTER",
    """
WITH locked AS MATERIALIZED (SELECT id FROM scheduling_node ORDER BY id FOR NO KEY UPDATE)
UPDATE scheduling_node n SET status = 'left', status_since = clock_timestamp(), leaving = false
FROM locked l WHERE n.id = l.id AND n.status IN ('alive', 'lost')
RETURNING n.id
""",
)

#: The numbers that daemons and readers of the API keep.
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
    """Raise every epoch by `by` and take everything from everybody; what should run is pending.

    Return old and new epoch of every portfolio, those that are stopped or deleted included.
    """
    fleet = yield from lock_fleet(leases=True)
    now = yield from query_one(NOW)
    assert now is not None
    epochs = yield from revoke_all(
        [_taking(row) for row in fleet],
        by=by,
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
        # A later number is that of a portfolio created since.
        last_portfolio=last_ids["portfolios_portfolio"],
    )
    yield from bump_desired_versions(row.id for row in nodes)
    return [Raised(row.name, row.epoch, epochs[row.portfolio_id]) for row in fleet]


def _taking(row: Row) -> Revocation:
    phase, reason = row.phase, row.reason
    if row.node_id is not None:
        pending = ("pending", "waits for the next pass")
        phase, reason = pending if is_wanted(row) else ("stopped", "")
    return Revocation(
        row.portfolio_id, phase, reason, row.halt_id, Jsonb({"epoch_before": row.epoch})
    )
