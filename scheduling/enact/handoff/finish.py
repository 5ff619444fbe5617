"""End an ownership without a new owner: the last transition of a stop, and of failures."""

from __future__ import annotations

from uuid import UUID

from scheduling.db.transaction import Row, Transaction
from scheduling.enact.audit_log import audit
from scheduling.enact.grant import GrantCause, Owner, grant
from scheduling.enact.handoff.statements import record_grant
from scheduling.enact.notify import bump_desired_versions


def revoke_ownership(
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
) -> Transaction[bool]:
    """Raise the epoch and leave the run without an owner. Return False if it was granted meanwhile.

    `h` is the handoff that ends with it, a stop. If the portfolio should run again by then, it
    becomes pending. `released` and `batch`: the owner's last commit, if this is its answer.
    """
    if phase == "stopped" and run.desired_state == "running":
        phase, reason = "pending", "waits for the next pass"
    if h is not None:
        reason, actor = reason or h.reason, h.requested_by
    given = yield from grant(
        run.portfolio_id,
        run.epoch,
        Owner(None, None, run.revision),
        GrantCause(cause, reason, actor, None if h is None else h.id),
        phase=phase,
        run_reason=reason,
    )
    if given is None:
        return False
    if h is not None:
        yield from record_grant(
            h.id,
            "done",
            given,
            released=released,
            batch=batch,
            answer="handed_over" if released else "",
        )
        yield from audit(
            "handoff_done", portfolio=run.portfolio_id, node=run.node_id, handoff=h.id, kind=h.kind
        )
    if hint:
        yield from bump_desired_versions([run.node_id])
    return True


def place_again(run: Row, *, cause: str, reason: str, hint: bool = True) -> Transaction[bool]:
    """End the ownership of a run without a handoff, so that a pass places the portfolio again.

    Return False if the run was granted meanwhile.
    """
    return (
        yield from revoke_ownership(
            None,
            run,
            released=False,
            batch=None,
            phase="pending",
            cause=cause,
            reason=reason,
            hint=hint,
        )
    )
