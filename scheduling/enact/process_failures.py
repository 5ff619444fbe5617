"""What follows when a portfolio's process ends unasked, and how a revision is proven."""

from __future__ import annotations

from uuid import UUID

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, NO_ACTIVE_HANDOFF, Statement
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.enact.audit_log import audit
from scheduling.enact.grant import grant, lock_run, raise_attempts
from scheduling.enact.handoff import (
    fail,
    failed_start,
    quarantine,
    reject,
    reject_handoff_revision,
    revoke_ownership,
    roll_back,
)
from scheduling.enact.handoff.deadlines import DELAYED
from scheduling.enact.handoff.rollback import MAX_ATTEMPTS
from scheduling.enact.handoff.statements import (
    GRANTED,
    LOCK_HANDOFF,
    NewHandoff,
    active_handoff,
    insert,
)
from scheduling.enact.notify import bump_desired_versions
from scheduling.timing import Timing
from scheduling.wire.messages import Halted, ProcessExited

#: Failures before the first event on one node before the next try is elsewhere.
MAX_FAILURES_A_NODE = 2


NOTE_DEATH = Statement(
    "NOTE_DEATH",
    """
UPDATE scheduling_run SET last_death = %(death)s WHERE portfolio_id = %(portfolio)s
""",
)


#: Read under the lock of the run. The run keeps the last death only, and a beat that was held up on
#: its way may bring an earlier one again after it.
COUNTED = Statement(
    "COUNTED",
    """
SELECT id FROM scheduling_event
WHERE portfolio_id = %(portfolio)s AND kind = 'process_died' AND data->>'death' = %(death)s
LIMIT 1
""",
)


def handle_process_exit(
    node: int, incarnation: UUID, death: ProcessExited, timing: Timing
) -> Transaction[str]:
    """Count a death and decide: restart in place, the good revision, elsewhere, or quarantine.

    Idempotent by `death.death`, whatever was reported since; a report of an older epoch changes
    nothing.
    """
    run = yield from lock_run(death.portfolio)
    if (
        run is None
        or run.epoch != death.epoch
        or run.node_id != node
        or run.incarnation != incarnation
        or run.last_death == UUID(death.death)
    ):
        return "late"
    found = yield from query(COUNTED, portfolio=run.portfolio_id, death=str(UUID(death.death)))
    if found:
        return "late"
    yield from audit(
        "process_died",
        portfolio=run.portfolio_id,
        node=node,
        actor=run.node_name,
        reason=death.error,
        epoch=death.epoch,
        revision=death.revision,
        seq=death.seq,
        stage=death.stage,
        death=str(UUID(death.death)),
    )
    active = yield from active_handoff(run.portfolio_id)
    if active is not None and active.kind == "stop":
        # Nothing is left to drain; an attempt less does not matter to what should not run.
        yield from revoke_ownership(active, run, released=False, batch=None)
        return "stopped"
    if active is not None and active.state == "activating":
        handoff = yield from query_one(LOCK_HANDOFF, handoff=active.id)
        assert handoff is not None
        if death.stage in ("load", "event") or handoff.kind == "reload":
            yield from reject_handoff_revision(handoff, run, death.error)
        return (yield from roll_back(handoff, run, death.error, timing))
    unproven = run.revision_status != "good"
    if unproven and run.good_revision is not None and run.good_revision != run.revision:
        return (yield from _fall_back(run, node, incarnation, death, timing))
    if death.idle:
        # No event has failed. A feed that stands still would otherwise quarantine, for want of
        # progress, what somebody kills five times in a week.
        yield from query(NOTE_DEATH, portfolio=run.portfolio_id, death=UUID(death.death))
        yield from bump_desired_versions([node])
        return "restart"
    counted = yield from raise_attempts(
        run.portfolio_id,
        f"attempt {run.attempts + 1} of {MAX_ATTEMPTS} ended after seq {run.last_seq}: "
        f"{death.error}",
        death=death.death,
        node_failed=node if death.before_first_event else None,
        failed_seq=death.failed_seq or None,
    )
    assert counted is not None
    if counted.attempts >= MAX_ATTEMPTS:
        if active is not None:
            yield from fail(active, run, f"its process ended: {death.error}")
        yield from quarantine(run, counted.attempts, death.error)
        return "quarantined"
    if counted.failures_by_node.get(str(node), 0) >= MAX_FAILURES_A_NODE and active is None:
        yield from revoke_ownership(
            None,
            run,
            released=False,
            batch=None,
            phase="pending",
            cause="failed_start",
            reason=f"failed {MAX_FAILURES_A_NODE} times on {run.node_name}: {death.error}",
        )
        return "elsewhere"
    yield from bump_desired_versions([node])
    return "restart"


def _fall_back(
    run: Row, node: int, incarnation: UUID, death: ProcessExited, timing: Timing
) -> Transaction[str]:
    """Give the run back to the last good revision at once, as a reload that needs no release."""
    yield from reject(run, run.revision, death.error)
    active = yield from active_handoff(death.portfolio)
    if active is not None:
        yield from fail(active, run, f"its process ended: {death.error}")
    back = NewHandoff(
        portfolio=death.portfolio,
        kind="reload",
        state="activating",
        reason=f"r{death.revision} was rejected: {death.error}",
        why=None,
        source=node,
        source_incarnation=incarnation,
        target=node,
        target_incarnation=incarnation,
        from_epoch=run.epoch,
        from_revision=run.revision,
        to_revision=run.good_revision,
        deadline_s=timing.activate_deadline_s,
    )
    (row,) = yield from insert([back], "system")
    given = yield from grant(
        death.portfolio,
        seen_epoch=run.epoch,
        node=node,
        incarnation=incarnation,
        revision=run.good_revision,
        cause="reload",
        why=row.reason,
        actor="system",
        handoff=row.id,
        reason=row.reason,
    )
    assert given is not None  # the run is locked
    yield from query(
        GRANTED,
        handoff=row.id,
        to="activating",
        to_epoch=given.epoch,
        released=False,
        released_seq=given.last_seq,
        batch=None,
        answer="",
        error="",
        deadline_s=timing.activate_deadline_s,
    )
    yield from bump_desired_versions([node])
    return "fell_back"


def handle_stale_halt(
    node: int, incarnation: UUID, report: Halted, timing: Timing
) -> Transaction[str]:
    """catch_up is halt and the next event is stale: own it nowhere until somebody starts it."""
    run = yield from lock_run(report.portfolio)
    if (
        run is None
        or run.epoch != report.epoch
        or run.node_id != node  # an incarnation is no secret: who speaks is what the token says
        or run.incarnation != incarnation
    ):
        return "late"
    active = yield from active_handoff(report.portfolio)
    if active is not None and active.kind == "stop":
        yield from revoke_ownership(active, run, released=True, batch=None)
        return "stopped"
    if active is not None:
        yield from fail(active, run, "it halted before a stale event")
    reason = (
        f"stopped before seq {run.last_seq + 1}: the next events are {report.age_s:.0f} s old, "
        f"limit {timing.stale_order_age_s:g} s, and catch_up is halt; start resumes there"
    )
    yield from revoke_ownership(
        None,
        run,
        released=True,
        batch=None,
        phase="halted",
        cause="halt",
        reason=reason,
        actor=run.node_name,
    )
    yield from audit(
        "halted", portfolio=run.portfolio_id, node=node, actor=run.node_name, reason=reason
    )
    return "halted"


PROVE = Statement(
    "PROVE",
    """
WITH ready AS MATERIALIZED (
    -- The run first, as everybody; one that is being committed or granted is looked at next time.
    -- So is one whose revision a person changes: the commits of all the others would wait for it.
    SELECT r.portfolio_id, r.revision
    FROM scheduling_run r
    JOIN scheduling_tenure t ON t.portfolio_id = r.portfolio_id AND t.epoch = r.epoch
    JOIN portfolios_revision v ON v.portfolio_id = r.portfolio_id AND v.number = r.revision
    WHERE (v.status = 'unproven'
           -- Back to an earlier good one: that is the one to fall back to from now on.
           OR (v.status = 'good' AND r.good_revision IS DISTINCT FROM r.revision))
      -- By a commit after that time, not by the time alone: while nodes cannot reach us nobody says
      -- that its process has died.
      AND r.last_commit_at > r.first_commit_at + make_interval(secs => %(good_after_s)s)
      AND r.last_seq > t.from_seq
    ORDER BY r.portfolio_id
    FOR UPDATE OF r SKIP LOCKED FOR NO KEY UPDATE OF v SKIP LOCKED
), noted AS (
    UPDATE scheduling_run r SET good_revision = ready.revision
    FROM ready WHERE r.portfolio_id = ready.portfolio_id
), proven AS (
    UPDATE portfolios_revision v SET status = 'good', status_reason = ''
    FROM ready WHERE v.portfolio_id = ready.portfolio_id AND v.number = ready.revision
    RETURNING v.portfolio_id, v.number
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT clock_timestamp(), 'revision_good', portfolio_id, NULL, 'sweep', '',
           jsonb_build_object('revision', number) FROM proven
)
SELECT portfolio_id, number FROM proven
""",
)


def mark_proven_revisions(timing: Timing) -> Transaction[int]:
    """Mark revisions good that ran for good_after_s and made progress. Return how many."""
    rows = yield from query(PROVE, good_after_s=timing.good_after_s)
    return len(rows)


#: What runs is level-triggered: two quick changes of a configuration end at the last one.
STALE_REVISIONS = Statement(
    "STALE_REVISIONS",
    f"""
SELECT r.portfolio_id, r.epoch, r.node_id, p.revision AS wanted
FROM scheduling_run r
JOIN portfolios_portfolio p ON p.id = r.portfolio_id
JOIN portfolios_revision v ON v.portfolio_id = p.id AND v.number = p.revision
JOIN scheduling_tenure t ON t.portfolio_id = r.portfolio_id AND t.epoch = r.epoch
JOIN scheduling_lease l ON l.node_id = r.node_id AND l.incarnation = r.incarnation
JOIN scheduling_node n ON n.id = r.node_id
WHERE r.revision <> p.revision AND v.status <> 'rejected' AND r.phase = 'running'
  -- On a node that lacks it the reload would fail, and that be held against the revision.
  AND n.strategies -> v.strategy = to_jsonb(v.strategy_version)
  AND l.expires_at > clock_timestamp()
  AND (t.cause <> 'failover'
       OR r.first_commit_at < clock_timestamp() - make_interval(secs => %(good_after_s)s))
  AND NOT EXISTS (SELECT FROM scheduling_handoff h WHERE h.portfolio_id = r.portfolio_id
                  AND (h.state IN {ACTIVE_HANDOFF_STATES}
                       -- One that failed is not tried again in the same breath.
                       OR (h.kind = 'reload' AND h.to_revision = p.revision
                           AND h.state IN ('failed', 'rolled_back')
                           AND h.finished_at > clock_timestamp()
                               - make_interval(secs => %(rest_s)s))))
  -- Nor is one that waits until positions are closed, which was written on the row.
  AND (r.why ->> 'code' IS DISTINCT FROM 'symbol_in_use'
       OR r.why #>> '{{params,wanted}}' IS DISTINCT FROM 'r' || p.revision
       OR coalesce((r.why ->> 'checked_at')::float8, 0)
           < extract(epoch FROM clock_timestamp()) - %(rest_s)s)
ORDER BY r.portfolio_id LIMIT 50
""",
)

#: Seconds between two attempts of the system to reload to the same revision.
RELOAD_REST_S = 10.0

#: Owned by an incarnation that its node has no more, and in no handoff: a grant and a register
#: crossed. The next grant to the node that holds the lease mends it.
ORPHANED = Statement(
    "ORPHANED",
    f"""
SELECT r.portfolio_id, r.epoch
FROM scheduling_run r JOIN scheduling_lease l ON l.node_id = r.node_id
WHERE l.incarnation <> r.incarnation
  AND {NO_ACTIVE_HANDOFF}
ORDER BY r.portfolio_id LIMIT 50
""",
)


def reclaim_orphaned(portfolio: int, seen_epoch: int) -> Transaction[bool]:
    """Take a run from an incarnation that is no more, so that it is placed again."""
    run = yield from lock_run(portfolio)
    if run is None or run.epoch != seen_epoch or run.node_id is None:
        return False  # it was granted while we looked
    return (
        yield from revoke_ownership(
            None,
            run,
            released=False,
            batch=None,
            phase="pending",
            cause="orphaned",
            reason=f"{run.node_name} started again while it was granted",
        )
    )


#: Granted, alive, no handoff to carry a deadline, and yet no first commit: somebody must act.
UNACTIVATED = Statement(
    "UNACTIVATED",
    f"""
SELECT r.portfolio_id, r.epoch, n.name
FROM scheduling_run r JOIN scheduling_node n ON n.id = r.node_id
JOIN scheduling_lease l ON l.node_id = r.node_id AND l.incarnation = r.incarnation
WHERE r.first_commit_at IS NULL AND r.phase = 'starting'
  AND r.granted_at < clock_timestamp() - make_interval(secs => %(limit_s)s)
  AND l.taken_at < clock_timestamp() - make_interval(secs => %(limit_s)s)
  AND l.expires_at > clock_timestamp() + interval '2 s' AND n.status = 'alive'
  AND NOT {DELAYED}
  AND {NO_ACTIVE_HANDOFF}
ORDER BY r.portfolio_id LIMIT 50
""",
)


def unactivated(timing: Timing) -> Transaction[list[Row]]:
    """Return the runs that a living node was granted and has not committed in time."""
    return (
        yield from query(
            UNACTIVATED,
            limit_s=timing.activate_deadline_s,
            gap_s=timing.pulse_gap_s,
            interval_s=timing.heartbeat_interval_s,
        )
    )


def reclaim_unactivated(portfolio: int, seen_epoch: int, limit_s: float) -> Transaction[bool]:
    """Take a run from a living node that never committed, so that it is placed again."""
    run = yield from lock_run(portfolio)
    if run is None or run.epoch != seen_epoch or run.first_commit_at is not None:
        return False  # it committed, or was granted, while we looked
    error = f"{run.node_name} did not commit in {limit_s:g} s"
    yield from failed_start(run, run.node_id, error, run.revision, False, timed_out=True)
    return True
