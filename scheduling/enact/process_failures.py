"""Apply what follows if a portfolio's process exits unasked, or the portfolio halts itself."""

from __future__ import annotations

from uuid import UUID

from scheduling.db.statements import Statement
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.decide.process_exit import (
    MAX_ATTEMPTS,
    MAX_FAILURES_PER_NODE,
    ExitAction,
    ExitDecision,
    ExitedRun,
    decide_exit,
)
from scheduling.enact.audit_log import audit
from scheduling.enact.grant import GrantCause, Owner, grant, lock_run, raise_attempts
from scheduling.enact.handoff.finish import place_again, revoke_ownership
from scheduling.enact.handoff.rollback import (
    fail,
    quarantine,
    reject,
    reject_handoff_revision,
    roll_back,
)
from scheduling.enact.handoff.statements import (
    LOCK_HANDOFF,
    NewHandoff,
    active_handoff,
    insert,
    record_grant,
)
from scheduling.enact.notify import bump_desired_versions
from scheduling.timing import Timing
from scheduling.wire.messages import Halted, ProcessExited

#: Read before the run is locked: a node can send a report about any portfolio, and while its run is
#: locked, no commit of its owner passes.
OWNED = Statement(
    "OWNED",
    """
SELECT portfolio_id FROM scheduling_run
WHERE portfolio_id = %(portfolio)s AND epoch = %(epoch)s AND node_id = %(node)s
  AND incarnation = %(incarnation)s
""",
)

NOTE_EXIT = Statement(
    "NOTE_EXIT",
    """
UPDATE scheduling_run SET last_death = %(death)s WHERE portfolio_id = %(portfolio)s
""",
)

#: How old a line may be in which a repeated report is looked for. Much longer than a heartbeat can
#: be delayed on its way and than exits are counted in one line (EXITS_WITHIN_S); without a bound,
#: each exit of a portfolio that exits again and again would read all lines of years.
REPEATED_WITHIN_S = 3_600

#: Read under the lock of the run. The run keeps only the last exit, and a heartbeat delayed on its
#: way may report an earlier exit again after it. A line names the exit that it was written for, and
#: those that were counted in that line later.
COUNTED_BEFORE = Statement(
    "COUNTED_BEFORE",
    """
SELECT id FROM scheduling_event
WHERE portfolio_id = %(portfolio)s AND kind = 'process_died'
  AND at > clock_timestamp() - make_interval(secs => %(within_s)s)
  AND (data->>'death' = %(death)s OR data->'deaths' ? %(death)s)
LIMIT 1
""",
)

#: An exit that is no attempt is followed by a restart, however many there were: the daemon waits a
#: second before each start. So that these exits do not fill the audit log, there are MAX_EXITS
#: lines within EXITS_WITHIN_S seconds; further exits are counted in the newest line.
MAX_EXITS, EXITS_WITHIN_S = 10, 600

#: Ids of exits that a line keeps of those counted in it, the newest first. A daemon has at most one
#: exit of a portfolio unreported, since it starts the process again only once the report was
#: answered, a second or more after the exit. It waits 4 s for an answer: 20 exits take longer than
#: five such requests.
MAX_DEATHS = 20

#: Read under the lock of the run. Concurrent writer: the same exits reported by a second heartbeat,
#: through another gateway process.
RECENT_EXITS = Statement(
    "RECENT_EXITS",
    """
SELECT count(*) AS lines, max(id) AS newest FROM scheduling_event
WHERE portfolio_id = %(portfolio)s AND kind = 'process_died'
  AND at > clock_timestamp() - make_interval(secs => %(within_s)s)
""",
)

#: Written under the lock of the run. Concurrent writer: a report of the same or another exit of the
#: run through another gateway process. It waits for the lock before it reads COUNTED_BEFORE, so it
#: finds the id of this exit. `jsonb - number` removes the element at that index, if there is one.
COUNT_EXIT = Statement(
    "COUNT_EXIT",
    """
UPDATE scheduling_event SET data = data || jsonb_build_object(
    'times', coalesce((data->>'times')::bigint, 1) + 1,
    'deaths', (jsonb_build_array(%(death)s::text) || coalesce(data->'deaths', '[]'))
              - %(max_deaths)s::int)
WHERE id = %(line)s
""",
)


def handle_process_exit(
    node: int, incarnation: UUID, exited: ProcessExited, timing: Timing
) -> Transaction[str]:
    """Record the exit, decide what follows, and apply it. Return what was done.

    A repeat by `exited.death`, whatever was reported since, or a report of an earlier epoch changes
    nothing and returns `late`. After MAX_EXITS lines within EXITS_WITHIN_S, an exit that is no
    attempt is only counted in the newest of them, and returns `too_many`.
    """
    run = yield from _lock_owned(exited.portfolio, exited.epoch, node, incarnation)
    if run is None or run.last_death == UUID(exited.death):
        return "late"
    death = str(UUID(exited.death))
    counted = yield from query(
        COUNTED_BEFORE, portfolio=run.portfolio_id, death=death, within_s=REPEATED_WITHIN_S
    )
    if counted:
        return "late"
    active = yield from active_handoff(run.portfolio_id)
    decision = decide_exit(_exited_run(run, node, active), exited)
    is_attempt = decision.action != ExitAction.RESTART or decision.attempts is not None
    if not is_attempt and (yield from _count_further_exit(run, death)):
        return "too_many"
    yield from audit(
        "process_died",
        portfolio=run.portfolio_id,
        node=node,
        actor=run.node_name or "",
        reason=exited.error,
        epoch=exited.epoch,
        revision=exited.revision,
        seq=exited.seq,
        stage=exited.stage,
        death=death,
    )
    match decision.action:
        case ExitAction.FINISH_STOP:
            yield from revoke_ownership(active, run)
            return "stopped"
        case ExitAction.ROLL_BACK:
            return (yield from _roll_back(run, active, decision, exited))
        case ExitAction.FALL_BACK:
            return (yield from _fall_back(run, active, exited, timing))
        case ExitAction.RESTART:
            return (yield from _restart(run, decision, exited))
        case ExitAction.PLACE_ELSEWHERE:
            return (yield from _place_elsewhere(run, exited))
        case ExitAction.QUARANTINE:
            return (yield from _quarantine(run, active, decision, exited))


def _count_further_exit(run: Row, death: str) -> Transaction[bool]:
    """Count an exit in the newest audit line about one, if MAX_EXITS lines are recent.

    `death` is the id of the exit. Return whether it was counted there, and so gets no line of its
    own.
    """
    (recent,) = yield from query(RECENT_EXITS, portfolio=run.portfolio_id, within_s=EXITS_WITHIN_S)
    if recent.lines < MAX_EXITS:
        return False
    yield from query(COUNT_EXIT, line=recent.newest, death=death, max_deaths=MAX_DEATHS)
    yield from query(NOTE_EXIT, portfolio=run.portfolio_id, death=UUID(death))
    return True


def _lock_owned(
    portfolio: int, epoch: int, node: int, incarnation: UUID
) -> Transaction[Row | None]:
    """Lock the run and return it. Return None if this daemon does not own it at this epoch."""
    owned = {"portfolio": portfolio, "epoch": epoch, "node": node, "incarnation": incarnation}
    if not (yield from query(OWNED, **owned)):
        return None
    run = yield from lock_run(portfolio)
    # Compare the node, too: an incarnation is not a secret, and only the token proves which node
    # reports. Concurrent writer: a grant since OWNED.
    owner = None if run is None else (run.epoch, run.node_id, run.incarnation)
    return run if owner == (epoch, node, incarnation) else None


def _exited_run(run: Row, node: int, active: Row | None) -> ExitedRun:
    """Return what `decide_exit` has to know of a run and its active handoff."""
    return ExitedRun(
        revision=run.revision,
        is_proven=run.revision_status == "good",
        good_revision=run.good_revision,
        attempts=run.attempts,
        failures_on_node=run.failures_by_node.get(str(node), 0),
        handoff_kind=None if active is None else active.kind,
        is_activating=active is not None and active.state == "activating",
    )


def _roll_back(
    run: Row, active: Row | None, decision: ExitDecision, exited: ProcessExited
) -> Transaction[str]:
    """Roll back the handoff `active`, whose target exited before its first commit."""
    assert active is not None
    handoff = yield from query_one(LOCK_HANDOFF, handoff=active.id)
    assert handoff is not None
    if decision.rejects_revision:
        yield from reject_handoff_revision(handoff, run, exited.error)
    return (yield from roll_back(handoff, run, exited.error))


def _restart(run: Row, decision: ExitDecision, exited: ProcessExited) -> Transaction[str]:
    """Let the daemon start the process again, after the back-off of the attempts."""
    if decision.attempts is None:  # the exit is no attempt
        yield from query(NOTE_EXIT, portfolio=run.portfolio_id, death=UUID(exited.death))
    else:
        yield from _count_attempt(run, exited)
    yield from bump_desired_versions([run.node_id])
    return "restart"


def _place_elsewhere(run: Row, exited: ProcessExited) -> Transaction[str]:
    """End the ownership, so that a pass places the portfolio on another node."""
    yield from _count_attempt(run, exited)
    reason = f"failed {MAX_FAILURES_PER_NODE} times on {run.node_name}: {exited.error}"
    yield from place_again(run, cause="failed_start", reason=reason)
    return "elsewhere"


def _quarantine(
    run: Row, active: Row | None, decision: ExitDecision, exited: ProcessExited
) -> Transaction[str]:
    """Quarantine the run, and fail `active`, its handoff. Return "quarantined"."""
    assert decision.attempts is not None  # only an attempt leads to quarantine
    yield from _count_attempt(run, exited)
    if active is not None:
        yield from fail(active, run, f"its process ended: {exited.error}")
    yield from quarantine(run, decision.attempts, exited.error)
    return "quarantined"


def _count_attempt(run: Row, exited: ProcessExited) -> Transaction[None]:
    """Count the exit as an attempt, and store it as the reason of the run."""
    yield from raise_attempts(
        run.portfolio_id,
        f"attempt {run.attempts + 1} of {MAX_ATTEMPTS} ended after seq {run.last_seq}: "
        f"{exited.error}",
        death=exited.death,
        node_failed=run.node_id if exited.before_first_event else None,
        failed_seq=exited.failed_seq or None,  # 0: it is not known
    )


def _fall_back(
    run: Row, active: Row | None, exited: ProcessExited, timing: Timing
) -> Transaction[str]:
    """Reject the revision, and reload to the last good one without waiting for a release."""
    yield from reject(run, run.revision, exited.error)
    if active is not None:
        yield from fail(active, run, f"its process ended: {exited.error}")
    back = NewHandoff(
        portfolio=run.portfolio_id,
        kind="reload",
        state="activating",
        reason=f"r{exited.revision} was rejected: {exited.error}",
        why=None,
        source=run.node_id,
        source_incarnation=run.incarnation,
        target=run.node_id,
        target_incarnation=run.incarnation,
        from_epoch=run.epoch,
        from_revision=run.revision,
        to_revision=run.good_revision,
        deadline_s=timing.activate_deadline_s,
    )
    (row,) = yield from insert([back], "system")
    given = yield from grant(
        run.portfolio_id,
        run.epoch,
        Owner(run.node_id, run.incarnation, run.good_revision),
        GrantCause("reload", row.reason, "system", row.id),
        run_reason=row.reason,
    )
    assert given is not None  # the run is locked
    yield from record_grant(row.id, "activating", given, deadline_s=timing.activate_deadline_s)
    yield from bump_desired_versions([run.node_id])
    return "fell_back"


def handle_halt(node: int, incarnation: UUID, report: Halted, timing: Timing) -> Transaction[str]:
    """End the ownership of a portfolio that stopped itself, by a limit or before a stale event.

    The portfolio stays unassigned until an operator starts it. Return `halted`; `stopped` if a stop
    was under way anyway; `late` if the reporter is no longer the owner.
    """
    run = yield from _lock_owned(report.portfolio, report.epoch, node, incarnation)
    if run is None:
        return "late"
    active = yield from active_handoff(report.portfolio)
    if active is not None and active.kind == "stop":
        yield from revoke_ownership(active, run, released=True)
        return "stopped"
    if active is not None:
        yield from fail(active, run, report.reason or "it halted before a stale event")
    if report.reason:  # a limit stopped it
        reason = f"stopped after seq {run.last_seq}: {report.reason}; start resumes there"
    else:
        reason = (
            f"stopped before seq {run.last_seq + 1}: the next events are {report.age_s:.0f} s old, "
            f"limit {timing.stale_order_age_s:g} s, and catch_up is halt; start resumes there"
        )
    yield from revoke_ownership(
        None, run, phase="halted", cause="halt", reason=reason, actor=run.node_name or ""
    )
    yield from audit(
        "halted", portfolio=run.portfolio_id, node=node, actor=run.node_name or "", reason=reason
    )
    return "halted"
