"""Delete old rows of the control plane in batches. Ownership history is never deleted.

`docs/retention.md` lists every table that grows, with its bound or the reason why it has none.
"""

from __future__ import annotations

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query
from scheduling.decide.ownership_history import EVENT_KINDS

BATCH = 5_000  #: rows per statement, which takes milliseconds, so that nothing waits for it
#: Per portfolio and outcome, so that the last `different` verification and its alert stay.
KEPT_VERIFICATIONS = 20


def _deletion(name: str, table: str, condition: str) -> Statement:
    """Return a statement that deletes at most BATCH rows of `table` and returns their ids.

    `condition`: of a row, after WHERE. No concurrent writers here: rows of this age are only read.
    """
    return Statement(
        name,
        f"""
WITH old AS (SELECT id FROM {table} WHERE {condition} LIMIT {BATCH})
DELETE FROM {table} x USING old WHERE x.id = old.id RETURNING x.id
""",
    )


_OLD = "< clock_timestamp() - make_interval(secs => %(keep_s)s)"

_HISTORY = ", ".join(f"'{kind}'" for kind in EVENT_KINDS)

EVENTS = _deletion(
    "EVENTS", "scheduling_event", f"at {_OLD} AND kind NOT IN ({_HISTORY}) ORDER BY at"
)

ALERTS = _deletion("ALERTS", "scheduling_alert", f"closed_at {_OLD}")

#: Handoffs without a grant. A tenure refers to the handoff that granted it, and keeps it.
HANDOFFS = _deletion(
    "HANDOFFS",
    "scheduling_handoff",
    f"""finished_at {_OLD} AND state IN ('failed', 'superseded')
    AND NOT EXISTS (SELECT FROM scheduling_tenure t WHERE t.handoff_id = scheduling_handoff.id)""",
)

#: Five at a time with their items, of which each has a thousand at most.
ROLL_OUTS = Statement(
    "ROLL_OUTS",
    """
WITH old AS (
    SELECT id FROM scheduling_rollout
    WHERE ended_at < clock_timestamp() - make_interval(secs => %(keep_s)s)
      -- Concurrent writer: an operator who takes the roll-out back, after which it ends again.
      AND state IN ('stopped', 'finished', 'back')
    ORDER BY id LIMIT 5 FOR UPDATE SKIP LOCKED
), items AS (
    DELETE FROM scheduling_rolloutitem i USING old WHERE i.roll_out_id = old.id
)
DELETE FROM scheduling_rollout o USING old WHERE o.id = old.id RETURNING o.id
""",
)

#: Reports that an operator settled. A daemon reports vanished commits within seconds of its next
#: answer, so a claim of this age does not come again.
VANISHED = _deletion("VANISHED", "scheduling_vanishedcommits", f"settled_at {_OLD}")

#: Ended ones, but for the newest KEPT_VERIFICATIONS of each portfolio and outcome.
VERIFICATIONS = Statement(
    "VERIFICATIONS",
    f"""
WITH old AS (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY portfolio_id, state ORDER BY id DESC) AS place
        FROM scheduling_verification WHERE state NOT IN ('waiting', 'running')
    ) x WHERE place > {KEPT_VERIFICATIONS} LIMIT {BATCH}
)
DELETE FROM scheduling_verification v USING old WHERE v.id = old.id RETURNING v.id
""",
)

#: A web process makes a row at each start. No concurrent writer: a process that has not pulsed for
#: a day is dead, or inserts its row anew.
GATEWAYS = Statement(
    "GATEWAYS",
    """
DELETE FROM scheduling_gateway WHERE pulsed_at < clock_timestamp() - interval '1 day'
RETURNING id
""",
)

PRUNED = (EVENTS, ALERTS, HANDOFFS, ROLL_OUTS, VANISHED, VERIFICATIONS, GATEWAYS)


def delete_batch(statement: Statement, keep_s: float) -> Transaction[int]:
    """Delete a batch of rows by one of PRUNED; return how many.

    `keep_s`: how long rows whose age decides are kept.
    """
    return len((yield from query(statement, keep_s=keep_s)))
