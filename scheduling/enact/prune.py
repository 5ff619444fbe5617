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


#: No concurrent writers here: rows of this age are only read.
EVENTS = Statement(
    "EVENTS",
    """
WITH old AS (
    SELECT id FROM scheduling_event
    WHERE at < clock_timestamp() - make_interval(secs => %(keep_s)s) AND kind <> ALL(%(history)s)
    ORDER BY at LIMIT %(batch)s
)
DELETE FROM scheduling_event e USING old WHERE e.id = old.id RETURNING e.id
""",
)

ALERTS = Statement(
    "ALERTS",
    """
WITH old AS (
    SELECT id FROM scheduling_alert
    WHERE closed_at < clock_timestamp() - make_interval(secs => %(keep_s)s) LIMIT %(batch)s
)
DELETE FROM scheduling_alert a USING old WHERE a.id = old.id RETURNING a.id
""",
)

#: Handoffs without a grant. A tenure refers to the handoff that granted it, and keeps it.
HANDOFFS = Statement(
    "HANDOFFS",
    """
WITH old AS (
    SELECT h.id FROM scheduling_handoff h
    WHERE h.finished_at < clock_timestamp() - make_interval(secs => %(keep_s)s)
      AND h.state IN ('failed', 'superseded')
      AND NOT EXISTS (SELECT FROM scheduling_tenure t WHERE t.handoff_id = h.id)
    LIMIT %(batch)s
)
DELETE FROM scheduling_handoff h USING old WHERE h.id = old.id RETURNING h.id
""",
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
VANISHED = Statement(
    "VANISHED",
    """
WITH old AS (
    SELECT id FROM scheduling_vanishedcommits
    WHERE settled_at < clock_timestamp() - make_interval(secs => %(keep_s)s) LIMIT %(batch)s
)
DELETE FROM scheduling_vanishedcommits v USING old WHERE v.id = old.id RETURNING v.id
""",
)

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
    """Delete a batch of events outside the ownership history; return how many."""
    history = list(EVENT_KINDS)
    return len((yield from query(EVENTS, keep_s=keep_s, history=history, batch=BATCH)))


def prune_alerts(keep_s: float) -> Transaction[int]:
    """Delete a batch of closed alerts; return how many."""
    return len((yield from query(ALERTS, keep_s=keep_s, batch=BATCH)))


def prune_handoffs(keep_s: float) -> Transaction[int]:
    """Delete a batch of handoffs without a grant; return how many."""
    return len((yield from query(HANDOFFS, keep_s=keep_s, batch=BATCH)))


def prune_roll_outs(keep_s: float) -> Transaction[int]:
    """Delete a batch of roll-outs that have ended; return how many."""
    return len((yield from query(ROLL_OUTS, keep_s=keep_s)))


def prune_vanished(keep_s: float) -> Transaction[int]:
    """Delete a batch of settled claims of vanished commits; return how many."""
    return len((yield from query(VANISHED, keep_s=keep_s, batch=BATCH)))


def prune_gateways() -> Transaction[int]:
    """Delete the rows of web processes that ended a day ago; return how many."""
    return len((yield from query(GATEWAYS)))


def prune_verifications() -> Transaction[int]:
    """Delete a batch of verifications; return how many.

    The newest KEPT_VERIFICATIONS of each portfolio and outcome stay.
    """
    return len((yield from query(VERIFICATIONS, kept=KEPT_VERIFICATIONS, batch=BATCH)))
