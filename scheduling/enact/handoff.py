"""The handoff protocol, step by step. Each function here is one arrow of the machine drawn in
`scheduling.models.handoff`, and each arrow is conditional on the state it leaves.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from scheduling.decide.precedence import outranks
from scheduling.enact.audit import audit
from scheduling.enact.commit import COMMIT, arrays, tell_refused
from scheduling.enact.grant import grant, lock_run, raise_attempts
from scheduling.enact.hints import lock_nodes, touch
from scheduling.enact.recipe import Recipe, Row, call, one
from scheduling.enact.timing import Timing
from scheduling.errors import Refused
from scheduling.wire.messages import Commit, CommitResult

ACTIVE = "('requested', 'preparing', 'draining', 'activating')"

ACTIVE_HANDOFF = f"""
SELECT * FROM scheduling_handoff WHERE portfolio_id = %(portfolio)s AND state IN {ACTIVE}
FOR UPDATE
"""

LOCK_HANDOFF = """
SELECT h.*, l.incarnation AS target_lease, l.expires_at > clock_timestamp() AS target_valid,
       t.name AS target_name, s.name AS source_name,
       sl.incarnation AS source_lease, sl.expires_at > clock_timestamp() AS source_valid,
       ss.status AS source_status,
       (SELECT v.status FROM portfolios_revision v WHERE v.portfolio_id = h.portfolio_id
        AND v.number = h.from_revision) AS from_status
FROM scheduling_handoff h
LEFT JOIN scheduling_node t ON t.id = h.target_node_id
LEFT JOIN scheduling_lease l ON l.node_id = h.target_node_id
LEFT JOIN scheduling_node s ON s.id = h.source_node_id
LEFT JOIN scheduling_node ss ON ss.id = h.source_node_id
LEFT JOIN scheduling_lease sl ON sl.node_id = h.source_node_id
WHERE h.id = %(handoff)s
FOR UPDATE OF h
"""

PORTFOLIO_OF = "SELECT portfolio_id FROM scheduling_handoff WHERE id = %(handoff)s"

#: Read under the lock of the node row, so that two requests cannot both take its last place.
TARGET = f"""
SELECT n.id, n.name, n.capacity, l.incarnation, l.expires_at > clock_timestamp() AS valid,
       (SELECT coalesce(sum(p.weight), 0) FROM portfolios_portfolio p
        WHERE p.id <> %(portfolio)s AND p.id IN (
            SELECT r.portfolio_id FROM scheduling_run r WHERE r.node_id = n.id
            UNION SELECT h.portfolio_id FROM scheduling_handoff h
                WHERE h.target_node_id = n.id AND h.state IN {ACTIVE}
        ))::int AS held
FROM scheduling_node n LEFT JOIN scheduling_lease l ON l.node_id = n.id
WHERE n.id = %(node)s
"""

INSERT = """
INSERT INTO scheduling_handoff (portfolio_id, kind, state, reason, requested_by,
    source_node_id, source_incarnation, target_node_id, target_incarnation,
    from_epoch, from_revision, to_revision, release_answer, error, deadline_at, requested_at)
VALUES (%(portfolio)s, %(kind)s::text, %(state)s::text, %(reason)s::text, %(actor)s::text,
    %(source)s, %(source_incarnation)s, %(target)s, %(target_incarnation)s,
    %(from_epoch)s, %(from_revision)s, %(to_revision)s, '', '',
    clock_timestamp() + make_interval(secs => %(deadline_s)s), clock_timestamp())
RETURNING *
"""

#: The condition on the state is the fence of the machine: whoever moved it first wins.
MOVE = """
UPDATE scheduling_handoff SET
    state = %(to)s::text,
    error = CASE WHEN %(error)s::text = '' THEN error ELSE %(error)s::text END,
    deadline_at = clock_timestamp() + make_interval(secs => %(deadline_s)s),
    prepared_at = CASE WHEN %(to)s::text = 'draining'
            OR (%(to)s::text = 'activating' AND prepared_at IS NULL)
        THEN clock_timestamp() ELSE prepared_at END,
    finished_at = CASE WHEN %(to)s::text IN ('done', 'failed', 'rolled_back', 'superseded')
        THEN clock_timestamp() ELSE finished_at END
WHERE id = %(handoff)s AND state = ANY(%(from_)s)
RETURNING *
"""

#: The epoch has been granted: what the release or the deadline left is written beside it.
GRANTED = """
UPDATE scheduling_handoff SET
    state = %(to)s::text, to_epoch = %(to_epoch)s, granted_at = clock_timestamp(),
    released_at = CASE WHEN %(released)s THEN clock_timestamp() END,
    released_seq = %(released_seq)s, release_batch = %(batch)s, release_answer = %(answer)s::text,
    prepared_at = coalesce(prepared_at, clock_timestamp()),
    error = CASE WHEN %(error)s::text = '' THEN error ELSE %(error)s::text END,
    finished_at = CASE WHEN %(to)s::text = 'done' THEN clock_timestamp() END,
    deadline_at = clock_timestamp() + make_interval(secs => %(deadline_s)s)
WHERE id = %(handoff)s
"""

STORE_ANSWER = """
UPDATE scheduling_handoff SET release_batch = %(batch)s, release_answer = 'keep',
    error = CASE WHEN error = '' THEN %(error)s::text ELSE error END
WHERE id = %(handoff)s AND release_batch IS NULL
"""

SET_PHASE = """
UPDATE scheduling_run SET phase = %(phase)s::text, phase_since = clock_timestamp(),
    reason = coalesce(%(reason)s::text, reason)
WHERE portfolio_id = %(portfolio)s AND epoch = %(epoch)s AND phase <> %(phase)s::text
"""


# --- request -------------------------------------------------------------------------------------


def request(
    kind: str,
    portfolio: int,
    *,
    target: int | None,
    to_revision: int | None = None,
    actor: str,
    reason: str,
    timing: Timing,
    seen_epoch: int | None = None,
) -> Recipe[Row]:
    """Begin a handoff and return its row, or raise `Refused` with the sentence.

    `seen_epoch` is what an automatic pass decided on: another epoch by now means that somebody was
    faster, and refuses. What a person asks for names no epoch.
    """
    run = yield from lock_run(portfolio)
    if run is None:
        raise Refused("not_found", "The portfolio is gone.", status=404)
    if seen_epoch is not None and run.epoch != seen_epoch:
        raise Refused("superseded", f"{run.name} was granted again since it was looked at.")
    active = yield from one(ACTIVE_HANDOFF, portfolio=portfolio)
    if active is not None and not outranks(kind, active.kind):
        raise Refused(
            "handoff_in_progress",
            f"{run.name} is already in handoff {active.id} ({active.kind}, {active.state}); "
            "wait until it has ended.",
            handoff=active.id,
        )
    parts = [] if active is None else [active.source_node_id, active.target_node_id]
    yield from lock_nodes([run.node_id, target, *parts])
    if active is not None:
        yield from supersede(active, f"a {kind} came first")
    goal = None
    if target is not None:
        goal = yield from one(TARGET, node=target, portfolio=portfolio)
        if goal is None or goal.incarnation is None or not goal.valid:
            name = goal.name if goal is not None else f"number {target}"
            raise Refused(
                "node_lost",
                f"Node {name} cannot take {run.name}: its lease is not valid; choose another.",
            )
        if target != run.node_id and goal.held + run.weight > goal.capacity:
            raise Refused(
                "node_full",
                f"Node {goal.name} has no room for {run.name} (weight {run.weight}): "
                f"{goal.held} of {goal.capacity} are taken; choose another.",
            )
    state = "draining" if kind == "stop" else "preparing"
    deadline_s = timing.drain_deadline_s if kind == "stop" else timing.prepare_deadline_s
    row = yield from one(
        INSERT,
        portfolio=portfolio,
        kind=kind,
        state=state,
        reason=reason,
        actor=actor[:150],
        source=run.node_id,
        source_incarnation=run.incarnation,
        target=target,
        target_incarnation=None if goal is None else goal.incarnation,
        from_epoch=run.epoch,
        from_revision=run.revision,
        to_revision=run.revision if to_revision is None else to_revision,
        deadline_s=deadline_s,
    )
    assert row is not None
    yield from audit(
        "handoff_requested",
        portfolio=portfolio,
        node=target if target is not None else run.node_id,
        actor=actor,
        reason=reason,
        handoff=row.id,
        kind=kind,
    )
    if kind == "stop":
        yield from call(
            SET_PHASE, portfolio=portfolio, epoch=run.epoch, phase="draining", reason=reason or None
        )
    yield from touch([run.node_id, target])
    return row


def supersede(active: Row, why: str, *, hint: bool = True) -> Recipe[None]:
    """End an active handoff because something of higher rank comes. Its roles fall away with it."""
    moved = yield from one(
        MOVE,
        handoff=active.id,
        from_=["requested", "preparing", "draining", "activating"],
        to="superseded",
        error=why,
        deadline_s=0,
    )
    if moved is not None:
        yield from audit(
            "handoff_superseded", portfolio=active.portfolio_id, reason=why, handoff=active.id
        )
        if hint:
            yield from touch([active.source_node_id, active.target_node_id])


# --- prepare -------------------------------------------------------------------------------------


def _lock(handoff: int) -> Recipe[tuple[Row, Row] | None]:
    """Lock run, then handoff, in the one order. None: either is gone."""
    named = yield from one(PORTFOLIO_OF, handoff=handoff)
    if named is None:
        return None
    run = yield from lock_run(named.portfolio_id)
    row = yield from one(LOCK_HANDOFF, handoff=handoff)
    return None if run is None or row is None else (run, row)


def prepared(handoff: int, node: int, incarnation: UUID, timing: Timing) -> Recipe[str]:
    """The target is ready. Drain the source, or grant at once where there is none. Idempotent."""
    locked = yield from _lock(handoff)
    if locked is None:
        return "gone"
    run, h = locked
    if h.state != "preparing" or (h.target_node_id, h.target_incarnation) != (node, incarnation):
        return "late"  # a repeat, or its deadline was faster
    if h.from_epoch != run.epoch:
        yield from fail(h, run, "the portfolio was granted again meanwhile")
        return "failed"
    if run.node_id is None or h.kind == "failover":
        if h.kind == "failover" and run.node_id is not None and not _owner_is_gone(h):
            yield from fail(h, run, f"{h.source_name} beats again and keeps it")
            return "failed"
        if h.kind == "failover" and run.attempts + 1 >= MOST_ATTEMPTS:
            error = f"{h.source_name}, which ran it, was lost"
            yield from fail(h, run, error)
            yield from quarantine(run, run.attempts + 1, error)
            return "quarantined"
        return (yield from _hand_over(h, run, timing, released=False, batch=None, answer=""))
    yield from one(
        MOVE,
        handoff=handoff,
        from_=["preparing"],
        to="draining",
        error="",
        deadline_s=timing.drain_deadline_s,
    )
    yield from call(
        SET_PHASE, portfolio=run.portfolio_id, epoch=run.epoch, phase="draining", reason=None
    )
    yield from touch([h.source_node_id, h.target_node_id])
    return "draining"


def _owner_is_gone(h: Row) -> bool:
    """Return whether a failover may go on: the owner's lease is over or another's. Pure."""
    return (
        h.source_status in ("lost", "left") and not h.source_valid
    ) or h.source_lease != h.source_incarnation


def step_failed(
    handoff: int,
    node: int,
    incarnation: UUID,
    step: str,
    error: str,
    strategy_failed: bool,
    timing: Timing,
) -> Recipe[str]:
    """The target could not prepare or activate. Idempotent; a late report changes nothing."""
    locked = yield from _lock(handoff)
    if locked is None:
        return "gone"
    run, h = locked
    if (h.target_node_id, h.target_incarnation) != (node, incarnation):
        return "late"
    if step == "activate" and h.state == "activating":
        if strategy_failed or h.kind == "reload":
            yield from blame_revision(h, run, error)
        return (yield from roll_back(h, run, error, timing))
    if h.state in ("preparing", "draining"):
        yield from not_ready(h, run, error, strategy_failed)
        return "failed"
    return "late"


#: Earlier reloads to the same revision that failed under the same daemon.
FAILED_BEFORE = """
SELECT count(*) AS times FROM scheduling_handoff
WHERE portfolio_id = %(portfolio)s AND id < %(handoff)s AND kind = 'reload'
  AND to_revision = %(revision)s AND target_incarnation = %(incarnation)s
  AND state IN ('failed', 'rolled_back') AND finished_at > clock_timestamp() - interval '10 min'
"""


def not_ready(h: Row, run: Row, error: str, strategy_failed: bool) -> Recipe[None]:
    """The target could not prepare: end the handoff, and remember it so that it is not for ever.

    A reload's revision is rejected if it raised, or failed in any other way twice. A portfolio that
    runs nowhere has one attempt less. One that runs elsewhere goes on as if nothing was.
    """
    if h.kind == "reload":
        before = yield from one(
            FAILED_BEFORE,
            portfolio=h.portfolio_id,
            handoff=h.id,
            revision=h.to_revision,
            incarnation=h.target_incarnation,
        )
        if strategy_failed or (before is not None and before.times > 0):
            yield from blame_revision(h, run, error)
    yield from fail(h, run, error)
    if run.node_id is None:
        yield from failed_start(run, h.target_node_id, error, h.to_revision, strategy_failed)
    elif h.kind == "failover":
        # Its owner is lost, so it runs nowhere either.
        reason = f"could not start on {h.target_name}: {error}"
        counted = yield from raise_attempts(run.portfolio_id, reason, node_failed=h.target_node_id)
        if counted is not None and counted.attempts >= MOST_ATTEMPTS:
            yield from quarantine(run, counted.attempts, error)


def blame_revision(h: Row, run: Row, error: str) -> Recipe[None]:
    """Reject the revision of a handoff, if there is another one to go back to."""
    if h.to_revision != h.from_revision or run.good_revision not in (None, h.to_revision):
        yield from reject(run, h.to_revision, error)


def fail(h: Row, run: Row, error: str, *, hint: bool = True) -> Recipe[None]:
    """End a handoff before its grant. The source never stopped, or goes on now.

    `hint` False leaves it to the caller to touch source and target, when it has all its locks.
    """
    moved = yield from one(
        MOVE, handoff=h.id, from_=["preparing", "draining"], to="failed", error=error, deadline_s=0
    )
    if moved is None:
        return  # the grant or another failure was faster
    if run.node_id is not None:
        phase = "running" if run.first_commit_at is not None else "starting"
        yield from call(
            SET_PHASE, portfolio=run.portfolio_id, epoch=run.epoch, phase=phase, reason=None
        )
    yield from audit(
        "handoff_failed",
        portfolio=h.portfolio_id,
        node=h.target_node_id,
        reason=error,
        handoff=h.id,
        kind=h.kind,
    )
    if hint:
        yield from touch([h.source_node_id, h.target_node_id])


# --- drain and grant -----------------------------------------------------------------------------


def release(
    node: int, node_name: str, incarnation: UUID, commit: Commit, timing: Timing
) -> Recipe[CommitResult]:
    """The source's last commit, and the grant in its transaction.

    `handed_over`: the target owns it. `keep`: the commit stands, the epoch stays, the source goes
    on and the handoff has failed. The answer is stored under the batch id for a repeat.
    """

    def answer(kind: Any, detail: str = "") -> CommitResult:
        return CommitResult(portfolio=commit.portfolio, answer=kind, detail=detail)

    rows = yield from call(COMMIT, **arrays(node, node_name, incarnation, [commit]))
    if not rows:
        told = yield from tell_refused(node, incarnation, [commit])
        return told[commit.portfolio]
    assert commit.release is not None
    locked = yield from _lock(commit.release)
    if locked is None:
        return answer("keep", "the handoff is gone")
    run, h = locked
    if h.portfolio_id != commit.portfolio or h.from_epoch != commit.epoch:
        return answer("keep", "this handoff is not of this portfolio and epoch")
    if h.state != "draining":
        why = f"the handoff is {h.state}"
    elif h.kind == "stop":
        yield from end_run(h, run, released=True, batch=UUID(commit.batch))
        return answer("handed_over")
    elif not h.target_valid or h.target_lease != h.target_incarnation:
        why = f"{h.target_name} is no longer the one that prepared"
        yield from fail(h, run, why)
    else:
        yield from _hand_over(
            h, run, timing, released=True, batch=UUID(commit.batch), answer="handed_over"
        )
        return answer("handed_over")
    yield from call(STORE_ANSWER, handoff=h.id, batch=UUID(commit.batch), error=why)
    return answer("keep", why)


def _hand_over(
    h: Row,
    run: Row,
    timing: Timing,
    *,
    released: bool,
    batch: UUID | None,
    answer: str,
    error: str = "",
) -> Recipe[str]:
    """Grant to the target and wait for its first commit."""
    given = yield from grant(
        h.portfolio_id,
        seen_epoch=run.epoch,
        node=h.target_node_id,
        incarnation=h.target_incarnation,
        revision=h.to_revision,
        cause=h.kind,
        why=h.reason,
        actor=h.requested_by,
        handoff=h.id,
        deaths=1 if h.kind == "failover" else 0,
    )
    if given is None:  # cannot be under the lock of the run; refuse rather than guess
        yield from fail(h, run, "somebody granted it meanwhile")
        return "failed"
    yield from call(
        GRANTED,
        handoff=h.id,
        to="activating",
        to_epoch=given.epoch,
        released=released,
        released_seq=given.last_seq,
        batch=batch,
        answer=answer,
        error=error,
        deadline_s=timing.activate_deadline_s,
    )
    yield from touch([h.source_node_id, h.target_node_id])
    return "activating"


def end_run(
    h: Row | None,
    run: Row,
    *,
    released: bool,
    batch: UUID | None,
    phase: str = "stopped",
    reason: str = "",
    cause: str = "stop",
    actor: str = "",
    hint: bool = True,
) -> Recipe[bool]:
    """Own it nowhere from now on: epoch + 1, no owner. False: somebody granted it meanwhile.

    A stop that is over when running is wanted again leaves it pending.
    """
    if phase == "stopped" and run.desired_state == "running":
        phase, reason = "pending", "waits for the next pass"
    given = yield from grant(
        run.portfolio_id,
        seen_epoch=run.epoch,
        node=None,
        incarnation=None,
        revision=run.revision,
        cause=cause,
        why=reason or (h.reason if h is not None else ""),
        actor=h.requested_by if h is not None else actor,
        handoff=None if h is None else h.id,
        phase=phase,
        reason=reason or (h.reason if h is not None else ""),
    )
    if given is None:
        return False
    if h is not None:
        yield from call(
            GRANTED,
            handoff=h.id,
            to="done",
            to_epoch=given.epoch,
            released=released,
            released_seq=given.last_seq,
            batch=batch,
            answer="handed_over" if released else "",
            error="",
            deadline_s=0,
        )
        yield from audit(
            "handoff_done", portfolio=run.portfolio_id, node=run.node_id, handoff=h.id, kind=h.kind
        )
    if hint:
        yield from touch([run.node_id])
    return True


# --- activate and roll back ----------------------------------------------------------------------


def roll_back(h: Row, run: Row, error: str, timing: Timing) -> Recipe[str]:
    """The target never committed: grant back to the source, or to nobody so that it is placed.

    Only while the epoch is the one that was granted and nothing was committed under it.
    """
    if run.epoch != h.to_epoch:
        yield from supersede(h, "the portfolio was granted again meanwhile")
        return "late"
    if run.first_commit_at is not None:
        return "late"  # the first commit was faster
    moved = yield from one(
        MOVE, handoff=h.id, from_=["activating"], to="rolled_back", error=error, deadline_s=0
    )
    if moved is None:
        return "late"
    back = (
        h.source_node_id is not None
        and h.source_valid
        and h.source_lease == h.source_incarnation
        and h.from_status != "rejected"
        and h.kind in ("migrate", "reload")
    )
    yield from audit(
        "handoff_rolled_back",
        portfolio=h.portfolio_id,
        node=h.source_node_id if back else h.target_node_id,
        reason=error,
        handoff=h.id,
        kind=h.kind,
    )
    if back:
        yield from grant(
            h.portfolio_id,
            seen_epoch=run.epoch,
            node=h.source_node_id,
            incarnation=h.source_incarnation,
            revision=h.from_revision,
            cause="rollback",
            why=error,
            handoff=h.id,
        )
        yield from touch([h.source_node_id, h.target_node_id])
    else:
        assert h.target_node_id is not None
        yield from failed_start(run, h.target_node_id, error, h.to_revision, False)
    return "rolled_back"


REJECT = """
UPDATE portfolios_revision SET status = 'rejected', status_reason = %(error)s::text
WHERE portfolio_id = %(portfolio)s AND number = %(number)s AND status <> 'good'
RETURNING number
"""

SAY = "UPDATE scheduling_run SET reason = %(reason)s::text WHERE portfolio_id = %(portfolio)s"


def reject(run: Row, number: int, error: str) -> Recipe[bool]:
    """Mark a revision that was never good as rejected; it is not tried again until asked for."""
    row = yield from one(REJECT, portfolio=run.portfolio_id, number=number, error=error)
    if row is None:
        return False
    yield from call(SAY, portfolio=run.portfolio_id, reason=f"r{number} was rejected: {error}")
    yield from audit("revision_rejected", portfolio=run.portfolio_id, reason=error, revision=number)
    return True


#: Deaths and failed starts without progress before it is quarantined.
MOST_ATTEMPTS = 5


def failed_start(
    run: Row, node: int, error: str, revision: int, strategy_failed: bool
) -> Recipe[None]:
    """A start ended before the first commit. Leave it to be placed again, or quarantine it."""
    if strategy_failed and run.good_revision is not None and run.good_revision != revision:
        yield from reject(run, revision, error)
    counted = yield from raise_attempts(run.portfolio_id, error, node_failed=node)
    tries = counted.attempts if counted is not None else MOST_ATTEMPTS
    if tries >= MOST_ATTEMPTS:
        yield from quarantine(run, tries, error)
    else:
        yield from end_run(
            None,
            run,
            released=False,
            batch=None,
            phase="pending",
            cause="failed_start",
            reason=f"could not start on the node chosen ({tries} of {MOST_ATTEMPTS}): {error}",
        )


def quarantine(run: Row, tries: int, error: str, *, hint: bool = True) -> Recipe[None]:
    """Stop it for good: it failed too often, whoever hosted it. `start` lifts it."""
    reason = f"{tries} attempts ended after seq {run.last_seq}: {error}; start it again once mended"
    yield from end_run(
        None,
        run,
        released=False,
        batch=None,
        phase="quarantined",
        cause="quarantine",
        reason=reason,
        hint=hint,
    )
    yield from audit("quarantined", portfolio=run.portfolio_id, node=run.node_id, reason=reason)


# --- deadlines -----------------------------------------------------------------------------------

OVERDUE = f"""
SELECT h.id FROM scheduling_handoff h
LEFT JOIN scheduling_lease l ON l.node_id = h.target_node_id
LEFT JOIN scheduling_node s ON s.id = h.source_node_id
LEFT JOIN scheduling_lease sl ON sl.node_id = h.source_node_id
LEFT JOIN scheduling_node t ON t.id = h.target_node_id
WHERE h.state IN {ACTIVE} AND (
    -- While nodes cannot reach us, and until they had time to after that, nobody is late.
    (h.deadline_at < clock_timestamp() AND NOT EXISTS (
        SELECT FROM scheduling_gatewaypulse g
        WHERE g.last_beat_at < clock_timestamp() - make_interval(secs => %(gap_s)s)
           OR g.serving_since > clock_timestamp() - make_interval(secs => %(interval_s)s)))
    -- Waiting for one who is gone is waiting for nothing.
    OR (h.kind <> 'stop' AND (t.status <> 'alive' OR l.incarnation <> h.target_incarnation))
    OR (h.state = 'draining'
        AND (s.status <> 'alive' OR sl.incarnation <> h.source_incarnation))
)
ORDER BY h.id LIMIT 500
"""


def overdue(timing: Timing) -> Recipe[list[int]]:
    """Return the handoffs whose step is past its deadline or waits for a node that is gone."""
    rows = yield from call(
        OVERDUE, gap_s=2 * timing.heartbeat_interval_s, interval_s=timing.heartbeat_interval_s
    )
    return [row.id for row in rows]


def expire(handoff: int, timing: Timing) -> Recipe[str]:
    """Take the way out that the step has, after another look under the lock: it may be over."""
    locked = yield from _lock(handoff)
    if locked is None:
        return "gone"
    run, h = locked
    due = yield from one("SELECT %(deadline)s < clock_timestamp() AS due", deadline=h.deadline_at)
    late = due is not None and due.due
    target_gone = h.target_node_id is not None and (
        not h.target_valid or h.target_lease != h.target_incarnation
    )
    source_gone = h.source_node_id is not None and (
        not h.source_valid or h.source_lease != h.source_incarnation
    )
    if h.state == "preparing" and (late or target_gone):
        what = (
            f"{h.target_name} was lost before it was ready"
            if target_gone
            else f"{h.target_name} could not prepare in {timing.prepare_deadline_s:g} s"
        )
        if target_gone:
            yield from fail(h, run, what)
        else:
            yield from not_ready(h, run, what, False)
        return "failed"
    if h.state == "draining" and h.kind == "stop" and (late or source_gone):
        yield from end_run(h, run, released=False, batch=None)
        return "done"
    if h.state == "draining" and target_gone:
        yield from fail(h, run, f"{h.target_name} was lost before the grant")
        return "failed"
    if h.state == "draining" and (late or _owner_is_gone(h)):
        left = f"did not release in {timing.drain_deadline_s:g} s" if late else "is gone"
        return (
            yield from _hand_over(
                h,
                run,
                timing,
                released=False,
                batch=None,
                answer="",
                error=f"{h.source_name} {left}: the epoch was raised without it",
            )
        )
    if h.state == "activating" and (late or target_gone):
        what = (
            f"{h.target_name} was lost before its first commit"
            if target_gone
            else f"{h.target_name} did not commit in {timing.activate_deadline_s:g} s"
        )
        if h.kind == "reload" and not target_gone:
            yield from blame_revision(h, run, what)
        return (yield from roll_back(h, run, what, timing))
    return "early"
