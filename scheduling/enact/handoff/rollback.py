"""Fail a handoff before its grant, or roll it back after the grant."""

from __future__ import annotations

from scheduling.db.statements import IdRow, PortfolioIdRow, Statement
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.decide.process_exit import MAX_ATTEMPTS
from scheduling.enact.audit_log import audit
from scheduling.enact.grant import GrantCause, Owner, grant, raise_attempts
from scheduling.enact.handoff.finish import place_again, revoke_ownership
from scheduling.enact.handoff.request_handoff import supersede
from scheduling.enact.handoff.statements import MOVE, SET_PHASE
from scheduling.enact.notify import bump_desired_versions

#: An earlier reload to the same revision that failed under the same daemon, a short time ago.
FAILED_BEFORE = Statement(
    "FAILED_BEFORE",
    """
SELECT id FROM scheduling_handoff
WHERE portfolio_id = %(portfolio)s AND id < %(handoff)s AND kind = 'reload'
  AND to_revision = %(revision)s AND target_incarnation = %(incarnation)s
  AND state IN ('failed', 'rolled_back') AND finished_at > clock_timestamp() - interval '10 min'
LIMIT 1
""",
    row=IdRow,
)


def fail(handoff: Row, run: Row, error: str, *, bump: bool = True) -> Transaction[None]:
    """End a handoff before its grant, so that owner and revision stay. Its source goes on.

    Nothing changes if the handoff was granted or has ended. With `bump` False, the caller raises
    the desired versions of source and target, once it has taken all its locks.
    """
    moved = yield from query_one(
        MOVE,
        handoff=handoff.id,
        from_=["preparing", "draining"],
        to="failed",
        error=error,
        deadline_s=0,  # without a meaning: an ended handoff has no deadline
    )
    if moved is None:
        return  # the grant or another failure was faster
    if run.node_id is not None:
        phase = "running" if run.first_commit_at is not None else "starting"
        yield from query(
            SET_PHASE, portfolio=run.portfolio_id, epoch=run.epoch, phase=phase, reason=None
        )
    yield from audit(
        "handoff_failed",
        portfolio=handoff.portfolio_id,
        node=handoff.target_node_id,
        reason=error,
        handoff=handoff.id,
        kind=handoff.kind,
    )
    if bump:
        yield from bump_desired_versions([handoff.source_node_id, handoff.target_node_id])


def handle_prepare_failure(
    handoff: Row, run: Row, error: str, *, strategy_failed: bool = False, timed_out: bool = False
) -> Transaction[None]:
    """End a handoff whose target could not prepare, and keep it from being repeated indefinitely.

    The revision of a reload is rejected if its strategy raised, or if it failed twice in any other
    way. For an unassigned portfolio the failure counts as an attempt, unless only the deadline
    passed (`timed_out`): see `handle_failed_start`. A running portfolio is not affected.
    """
    if handoff.kind == "reload" and (strategy_failed or (yield from failed_before(handoff))):
        yield from reject_handoff_revision(handoff, run, error)
    yield from fail(handoff, run, error)
    if run.node_id is None:
        yield from handle_failed_start(
            run,
            handoff.target_node_id,
            error,
            handoff.to_revision,
            strategy_failed=strategy_failed,
            timed_out=timed_out,
        )
    elif handoff.kind == "failover":
        # The portfolio's owner is lost, so the portfolio is not running either.
        reason = f"could not start on {handoff.target_name}: {error}"
        if timed_out:
            yield from query(STORE_REASON, portfolio=run.portfolio_id, reason=reason)
            return
        attempts = yield from raise_attempts(
            run.portfolio_id, reason, node_failed=handoff.target_node_id
        )
        if attempts >= MAX_ATTEMPTS:
            yield from quarantine(run, attempts, error)


def failed_before(handoff: Row) -> Transaction[bool]:
    """Return whether a reload to this revision failed under the same daemon within ten minutes."""
    before = yield from query_one(
        FAILED_BEFORE,
        portfolio=handoff.portfolio_id,
        handoff=handoff.id,
        revision=handoff.to_revision,
        incarnation=handoff.target_incarnation,
    )
    return before is not None


def reject_handoff_revision(handoff: Row, run: Row, error: str) -> Transaction[None]:
    """Reject the revision that a handoff leads to, if there is another one to go back to."""
    others = {handoff.from_revision, run.good_revision} - {handoff.to_revision, None}
    if others:
        yield from reject(run, handoff.to_revision, error)


def roll_back(handoff: Row, run: Row, error: str, *, timed_out: bool = False) -> Transaction[str]:
    """Grant back to the source of a migrate or reload, or leave the portfolio without an owner.

    Called when the target failed before its first commit, or (`timed_out`) only did not make it in
    time. Return `rolled_back`, or `late` if the target has committed or the portfolio was granted
    since.
    """
    if run.epoch != handoff.to_epoch:
        yield from supersede(handoff, "the portfolio was granted again meanwhile")
        return "late"
    if run.first_commit_at is not None:
        return "late"  # the first commit was faster
    moved = yield from query_one(
        MOVE, handoff=handoff.id, from_=["activating"], to="rolled_back", error=error, deadline_s=0
    )
    if moved is None:
        return "late"
    returns_to_source = (
        handoff.source_node_id is not None
        and handoff.source_valid
        and handoff.source_lease == handoff.source_incarnation
        and handoff.from_status != "rejected"
        and handoff.kind in ("migrate", "reload")
    )
    yield from audit(
        "handoff_rolled_back",
        portfolio=handoff.portfolio_id,
        node=handoff.source_node_id if returns_to_source else handoff.target_node_id,
        reason=error,
        handoff=handoff.id,
        kind=handoff.kind,
    )
    if returns_to_source:
        yield from grant(
            handoff.portfolio_id,
            run.epoch,
            Owner(handoff.source_node_id, handoff.source_incarnation, handoff.from_revision),
            GrantCause("rollback", error, handoff=handoff.id),
        )
        yield from bump_desired_versions([handoff.source_node_id, handoff.target_node_id])
    else:
        assert handoff.target_node_id is not None
        yield from handle_failed_start(
            run, handoff.target_node_id, error, handoff.to_revision, timed_out=timed_out
        )
    return "rolled_back"


REJECT = Statement(
    "REJECT",
    """
UPDATE portfolios_revision SET status = 'rejected', status_reason = %(error)s::text
WHERE portfolio_id = %(portfolio)s AND number = %(number)s AND status <> 'good'
RETURNING portfolio_id
""",
    row=PortfolioIdRow,
)

STORE_REASON = Statement(
    "STORE_REASON",
    "UPDATE scheduling_run SET reason = %(reason)s::text WHERE portfolio_id = %(portfolio)s",
)


def reject(run: Row, number: int, error: str) -> Transaction[None]:
    """Reject a revision, unless it is good. Only an operator can let it be tried again."""
    row = yield from query_one(REJECT, portfolio=run.portfolio_id, number=number, error=error)
    if row is None:
        return
    yield from query(
        STORE_REASON, portfolio=run.portfolio_id, reason=f"r{number} was rejected: {error}"
    )
    yield from audit("revision_rejected", portfolio=run.portfolio_id, reason=error, revision=number)


def handle_failed_start(
    run: Row,
    node: int,
    error: str,
    revision: int,
    *,
    strategy_failed: bool = False,
    timed_out: bool = False,
) -> Transaction[None]:
    """Place a portfolio again that failed on `node` before its first commit, or quarantine it.

    If its strategy failed under a revision other than the good one, reject that revision too.

    A deadline that passed without a report says more about the node, or the network between node
    and database, than about the portfolio, so it is not counted as an attempt. The failed handoff
    keeps the balancer away from this node for a while (see `observe/snapshot.py`). If the
    portfolio itself hangs, its daemon's limits end it and the daemon reports that.
    """
    if timed_out:
        late = f"could not start in time: {error}"
        yield from place_again(run, cause="failed_start", reason=late)
        return
    if strategy_failed and run.good_revision is not None and run.good_revision != revision:
        yield from reject(run, revision, error)
    attempts = yield from raise_attempts(run.portfolio_id, error, node_failed=node)
    if attempts >= MAX_ATTEMPTS:
        yield from quarantine(run, attempts, error)
    else:
        reason = f"could not start on the node chosen ({attempts} of {MAX_ATTEMPTS}): {error}"
        yield from place_again(run, cause="failed_start", reason=reason)


def quarantine(run: Row, attempts: int, error: str, *, bump: bool = True) -> Transaction[None]:
    """Stop a portfolio after `attempts` without progress. An operator's start lifts that."""
    reason = (
        f"{attempts} attempts ended after seq {run.last_seq:,}: {error}; "
        "start it again once it is fixed"
    )
    yield from revoke_ownership(
        None, run, phase="quarantined", cause="quarantine", reason=reason, bump=bump
    )
    yield from audit("quarantined", portfolio=run.portfolio_id, node=run.node_id, reason=reason)
