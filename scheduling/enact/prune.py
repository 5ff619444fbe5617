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


def _delete_batch(name: str, table: str, condition: str) -> Statement:
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

EVENTS = _delete_batch(
    "EVENTS", "scheduling_event", f"at {_OLD} AND kind <> ALL(%(history)s) ORDER BY at"
)

ALERTS = _delete_batch("ALERTS", "scheduling_alert", f"closed_at {_OLD}")

#: Handoffs without a grant. A tenure refers to the handoff that granted it, and keeps it.
HANDOFFS = _delete_batch(
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

#: A daemon reports vanished commits within seconds of its next answer, so a claim of this age does
#: not come again.
VANISHED = _delete_batch("VANISHED", "scheduling_vanishedcommits", f"settled_at {_OLD}")

VERIFICATIONS = Statement(
    "VERIFICATIONS",
    """
WITH old AS (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY portfolio_id, state ORDER BY id DESC) AS place
        FROM scheduling_verification WHERE state NOT IN ('waiting', 'running')
    ) x WHERE place > %(kept)s LIMIT %(batch)s
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


def prune_events(keep_s: float) -> Transaction[int]:
    """Delete a batch of events over `keep_s` old that are no ownership history; return how many."""
    return len((yield from query(EVENTS, keep_s=keep_s, history=list(EVENT_KINDS))))


def prune_alerts(keep_s: float) -> Transaction[int]:
    """Delete a batch of alerts closed more than `keep_s` ago; return how many."""
    return len((yield from query(ALERTS, keep_s=keep_s)))


def prune_handoffs(keep_s: float) -> Transaction[int]:
    """Delete a batch of handoffs without a grant that ended over `keep_s` ago; return how many."""
    return len((yield from query(HANDOFFS, keep_s=keep_s)))


def prune_roll_outs(keep_s: float) -> Transaction[int]:
    """Delete at most five roll-outs that ended more than `keep_s` ago; return how many."""
    return len((yield from query(ROLL_OUTS, keep_s=keep_s)))


def prune_vanished(keep_s: float) -> Transaction[int]:
    """Delete reports of vanished commits that an operator settled over `keep_s` ago.

    Return how many: at most a batch.
    """
    return len((yield from query(VANISHED, keep_s=keep_s)))


def prune_gateways() -> Transaction[int]:
    """Delete the rows of web processes that have not pulsed for a day; return how many."""
    return len((yield from query(GATEWAYS)))


def prune_verifications() -> Transaction[int]:
    """Delete a batch of ended verifications; return how many.

    The newest KEPT_VERIFICATIONS of each portfolio and outcome stay.
    """
    return len((yield from query(VERIFICATIONS, kept=KEPT_VERIFICATIONS, batch=BATCH)))
