"""Commit the last batch of a handoff's source, and grant the portfolio to the target."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from scheduling.db.transaction import Row, Transaction, query
from scheduling.enact.commit import COMMIT
from scheduling.enact.commit_columns import to_columns
from scheduling.enact.commit_refusals import classify_refusals
from scheduling.enact.grant import GrantCause, Owner, grant
from scheduling.enact.handoff.finish import revoke_ownership
from scheduling.enact.handoff.rollback import fail
from scheduling.enact.handoff.statements import STORE_ANSWER, lock_run_and_handoff, record_grant
from scheduling.enact.handoff.symbols import (
    note_symbols_in_use,
    symbols_lost_by_reload,
    symbols_refusal,
)
from scheduling.enact.notify import bump_desired_versions
from scheduling.enact.pin import unpin
from scheduling.timing import Timing
from scheduling.wire.messages import Commit, CommitResult


def release(
    node: int, node_name: str, incarnation: UUID, commit: Commit, timing: Timing
) -> Transaction[CommitResult | None]:
    """Commit the source's last batch and grant to the target, in one transaction.

    The answer is `handed_over` if the target owns the portfolio now, or nobody after a stop; `keep`
    if the batch is committed, but the handoff has failed and the source goes on at the same epoch.
    The answer is stored under the id of the batch, for a repeat. Return None if the row of the run
    is locked: the daemon repeats the release.
    """

    def answer(kind: Any, detail: str = "") -> CommitResult:
        return CommitResult(portfolio=commit.portfolio, answer=kind, detail=detail)

    rows = yield from query(COMMIT, **to_columns(node, node_name, incarnation, [commit]))
    if not rows:
        answers = yield from classify_refusals(node, incarnation, [commit])
        return answers.get(commit.portfolio)
    assert commit.release is not None
    locked = yield from lock_run_and_handoff(commit.release, portfolio=commit.portfolio)
    if locked is None or locked[1].from_epoch != commit.epoch:
        return answer("keep", "there is no such handoff of this portfolio and epoch")
    run, handoff = locked
    if handoff.state != "draining":
        why = f"the handoff is {handoff.state}"
    elif handoff.kind == "stop":
        yield from revoke_ownership(handoff, run, released=True, batch=UUID(commit.batch))
        return answer("handed_over")
    elif not handoff.target_valid or handoff.target_lease != handoff.target_incarnation:
        why = f"{handoff.target_name} is no longer the incarnation that prepared"
        yield from fail(handoff, run, why)
    else:
        why = yield from fail_if_symbols_in_use(handoff, run)
        if not why:
            yield from grant_to_target(
                handoff, run, timing, released=True, batch=UUID(commit.batch), answer="handed_over"
            )
            return answer("handed_over")
    yield from query(STORE_ANSWER, handoff=handoff.id, batch=UUID(commit.batch), error=why)
    return answer("keep", why)


def fail_if_symbols_in_use(handoff: Row, run: Row) -> Transaction[str]:
    """Fail a reload if it would remove a symbol in use, and return why; "" if it removes none.

    The source has traded since the reload was requested, so this is checked again. If the reload
    fails, the source keeps the run and goes on.
    """
    if handoff.kind != "reload":
        return ""
    symbols = yield from symbols_lost_by_reload(run, handoff.to_revision)
    if not symbols:
        return ""
    why = symbols_refusal(run.name, symbols, f"r{handoff.to_revision}").message
    yield from fail(handoff, run, why)
    if handoff.to_revision == run.wanted_revision:  # it stays so, and pages say why it waits
        yield from note_symbols_in_use(run, handoff.to_revision, symbols)
    return why


def grant_to_target(
    handoff: Row,
    run: Row,
    timing: Timing,
    *,
    released: bool = False,
    batch: UUID | None = None,
    answer: str = "",
    error: str = "",
) -> Transaction[str]:
    """Grant to the target, whose first commit then ends the handoff.

    Return `activating`, or `failed` if the grant was refused. `released`, `batch` and `answer`
    describe the source's release, stored so that a repeat gets the same answer. `error`: why the
    target was granted without a release.
    """
    given = yield from grant(
        handoff.portfolio_id,
        run.epoch,
        Owner(handoff.target_node_id, handoff.target_incarnation, handoff.to_revision),
        GrantCause(handoff.kind, handoff.reason, handoff.requested_by, handoff.id),
        lost_owner=handoff.kind == "failover" and bool(run.event_waits),
    )
    if given is None:  # impossible under the lock of the run; refuse rather than guess
        yield from fail(handoff, run, "the portfolio was granted again meanwhile")
        return "failed"
    yield from record_grant(
        handoff.id,
        "activating",
        given,
        released=released,
        batch=batch,
        answer=answer,
        error=error,
        deadline_s=timing.activate_deadline_s,
    )
    yield from _clear_outdated_pin(handoff, run)
    yield from bump_desired_versions([handoff.source_node_id, handoff.target_node_id])
    return "activating"


def _clear_outdated_pin(handoff: Row, run: Row) -> Transaction[None]:
    """Clear the pin if a drain or a failover granted the portfolio to another node.

    Cleared at the grant, not at the request: a handoff that fails leaves the pin as it was.
    """
    forced = handoff.kind == "failover" or handoff.source_drains
    if forced and run.pinned_node_id not in (None, handoff.target_node_id):
        yield from unpin(
            [run.portfolio_id],
            actor=handoff.requested_by,
            reason=handoff.reason,
            handoff=handoff.id,
        )
