"""End an ownership without a new owner: the last transition of a stop, and of failures."""

from __future__ import annotations

from uuid import UUID

from scheduling.db.transaction import Row, Transaction
from scheduling.enact.audit_log import audit
from scheduling.enact.grant import GrantCause, Owner, grant
from scheduling.enact.handoff.statements import record_grant
from scheduling.enact.notify import bump_desired_versions


def revoke_ownership(
    handoff: Row | None,
    run: Row,
    *,
    released: bool = False,
    batch: UUID | None = None,
    phase: str = "stopped",
    reason: str = "",
    cause: str = "stop",
    actor: str = "",
    bump: bool = True,
) -> Transaction[bool]:
    """Raise the epoch and leave the run without an owner. Return False if it was granted since.

    `handoff`: the stop that this completes, or None. `phase`: that of the run afterwards, `pending`
    in place of `stopped` if an operator has started the portfolio since. `released`: whether the
    owner released the portfolio, by the commit `batch`. `bump`: raise the desired version of the
    owner's node here; with False, the caller raises it.
    """
    if phase == "stopped" and run.desired_state == "running":
        phase, reason = "pending", "waits for the next pass"
    if handoff is not None:
        reason, actor = reason or handoff.reason, handoff.requested_by
    given = yield from grant(
        run.portfolio_id,
        run.epoch,
        Owner(None, None, run.revision),
        GrantCause(cause, reason, actor, None if handoff is None else handoff.id),
        phase=phase,
        run_reason=reason,
    )
    if given is None:
        return False
    if handoff is not None:
        yield from record_grant(
            handoff.id,
            "done",
            given,
            released=released,
            batch=batch,
            answer="handed_over" if released else "",
        )
        yield from audit(
            "handoff_done",
            portfolio=run.portfolio_id,
            node=run.node_id,
            handoff=handoff.id,
            kind=handoff.kind,
        )
    if bump:
        yield from bump_desired_versions([run.node_id])
    return True


def place_again(run: Row, *, cause: str, reason: str, bump: bool = True) -> Transaction[bool]:
    """End the ownership of a run without a handoff, so that a pass places the portfolio again.

    Return False if the run was granted meanwhile. `bump`: see `revoke_ownership`.
    """
    revoked = revoke_ownership(None, run, phase="pending", cause=cause, reason=reason, bump=bump)
    return (yield from revoked)
