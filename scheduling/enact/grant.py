"""The grant: the only statement that changes the owner of a run, or its revision.

It ends the old tenure, raises the epoch, sets the new owner and writes the new tenure in one
statement, provided that the epoch is still the one the caller read. The loser of a race gets no row
and has to read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from scheduling.db.statements import PortfolioIdRow, Statement, head_of_feed, head_of_portfolio
from scheduling.db.transaction import Transaction, query, query_one


class Owner(NamedTuple):
    """Who runs a portfolio from a grant on, and which revision."""

    node: int | None  #: None: nobody
    incarnation: UUID | None
    revision: int
    python: str | None = None  #: the node's version, if its row does not have it yet


class GrantCause(NamedTuple):
    """Why a grant is made, as the tenure and the audit log keep it."""

    kind: str  #: that of the handoff, or "rollback", "register", "stop" …
    reason: str = ""
    actor: str = ""
    handoff: int | None = None


class GrantRow(NamedTuple):
    epoch: int
    last_seq: int
    granted_at: datetime


GRANT = Statement(
    "GRANT",
    f"""
WITH granted AS (
    -- Concurrent writer: another pass, a release, a register or an operator who granted this
    -- portfolio since its epoch was read. Then no row matches and nothing is written.
    UPDATE scheduling_run SET
        epoch = epoch + 1,
        node_id = %(node)s,
        incarnation = %(incarnation)s,
        revision = %(revision)s,
        granted_at = clock_timestamp(),
        first_commit_at = NULL,
        batch = NULL,
        attempts = attempts + %(lost_owners)s,
        -- A portfolio that has never run has waited for a node, which is not an outage: it starts
        -- up to the present head even if its catch_up is `halt`.
        resume_seq = CASE WHEN last_commit_at IS NOT NULL THEN resume_seq
                          ELSE {head_of_portfolio("scheduling_run.portfolio_id")} END,
        resumed_from = CASE WHEN last_commit_at IS NOT NULL THEN resumed_from ELSE last_seq END,
        phase = %(phase)s::text,
        phase_since = clock_timestamp(),
        reason = %(reason)s::text,
        -- The pending reason is over, and every commit from now on would copy it.
        why = NULL,
        -- Without an owner: the version of the last owner that committed, which made the state.
        python = CASE WHEN %(node)s::bigint IS NULL THEN coalesce((
                SELECT t.python FROM scheduling_tenure t
                WHERE t.portfolio_id = %(portfolio)s AND t.first_commit_at IS NOT NULL
                ORDER BY t.epoch DESC LIMIT 1), '')
            ELSE coalesce(nullif(coalesce(%(python)s::text, (
                SELECT n.python FROM scheduling_node n WHERE n.id = %(node)s)), ''), python) END
    WHERE portfolio_id = %(portfolio)s AND epoch = %(epoch)s
    RETURNING portfolio_id, epoch, node_id, incarnation, revision, last_seq, granted_at, python
), ended AS (
    UPDATE scheduling_tenure t SET to_seq = g.last_seq, ended_at = g.granted_at
    FROM granted g WHERE t.portfolio_id = g.portfolio_id AND t.ended_at IS NULL
), opened AS (
    INSERT INTO scheduling_tenure (
        portfolio_id, epoch, node_id, incarnation, revision, from_seq, cause, reason,
        handoff_id, started_at, python
    )
    SELECT portfolio_id, epoch, node_id, incarnation, revision, last_seq, %(cause)s::text,
           %(why)s::text,
           %(handoff)s, granted_at, python
    FROM granted WHERE node_id IS NOT NULL
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT granted_at, CASE WHEN node_id IS NULL THEN 'ended' ELSE 'granted' END,
           portfolio_id, node_id, %(actor)s::text, %(why)s::text,
           jsonb_build_object('epoch', epoch, 'incarnation', incarnation, 'revision', revision,
                              'from_seq', last_seq, 'cause', %(cause)s::text,
                              'handoff', %(handoff)s::bigint)
    FROM granted
)
SELECT epoch, last_seq, granted_at FROM granted
""",
    row=GrantRow,
)


#: No joins: after a wait for the row lock, joined rows would be read as they were before the wait,
#: for example a desired state or a revision's status that the holder of the lock has just changed.
LOCK_RUNS = Statement(
    "LOCK_RUNS",
    """
SELECT portfolio_id FROM scheduling_run WHERE portfolio_id = ANY(%(portfolios)s::bigint[])
ORDER BY portfolio_id FOR UPDATE
""",
    row=PortfolioIdRow,
)

#: Skip locked runs: the others should not wait for one of them.
LOCK_FREE_RUNS = Statement("LOCK_FREE_RUNS", f"{LOCK_RUNS.sql} SKIP LOCKED", row=PortfolioIdRow)


class RunRow(NamedTuple):
    """A run, with what decisions about it need."""

    portfolio_id: int
    epoch: int
    node_id: int | None
    incarnation: UUID | None
    revision: int
    last_seq: int
    phase: str
    reason: str
    attempts: int
    last_death: UUID | None  #: id of the last exit of its process
    good_revision: int | None
    first_commit_at: datetime | None
    last_commit_at: datetime | None
    failures_by_node: dict[str, int]  #: id of a node, as text → starts that failed there
    pinned_node_id: int | None
    python: str
    accept_python: str
    event_waits: bool | None
    node_name: str | None
    name: str
    wanted_revision: int
    weight: int
    desired_state: str
    archived_at: datetime | None
    revision_status: str | None


RUNS = Statement(
    "RUNS",
    f"""
SELECT r.portfolio_id, r.epoch, r.node_id, r.incarnation, r.revision, r.last_seq, r.phase, r.reason,
       r.attempts, r.last_death, r.good_revision, r.first_commit_at, r.last_commit_at,
       r.failures_by_node, r.pinned_node_id, r.python, r.accept_python,
       -- If the feed stands still, no event waits, so no event can have ended the owner.
       r.last_seq < {head_of_feed("p.feed_id")} AS event_waits, n.name AS node_name,
       p.name, p.revision AS wanted_revision, p.weight, p.desired_state, p.archived_at,
       (SELECT v.status FROM portfolios_revision v
        WHERE v.portfolio_id = r.portfolio_id AND v.number = r.revision) AS revision_status
FROM scheduling_run r
JOIN portfolios_portfolio p ON p.id = r.portfolio_id
LEFT JOIN scheduling_node n ON n.id = r.node_id
WHERE r.portfolio_id = ANY(%(portfolios)s::bigint[])
""",
    row=RunRow,
)


def lock_run(portfolio: int) -> Transaction[RunRow | None]:
    """Lock the run of `portfolio` and return it; None if it does not exist."""
    return (yield from lock_runs([portfolio])).get(portfolio)


def lock_runs(portfolios: Sequence[int], *, patient: bool = True) -> Transaction[dict[int, RunRow]]:
    """Lock the runs of `portfolios` and return portfolio → run, without those that do not exist.

    If not `patient`, leave out runs that are locked instead of waiting for them. Two statements.
    """
    locked = yield from query(LOCK_RUNS if patient else LOCK_FREE_RUNS, portfolios=portfolios)
    rows = yield from query(RUNS, portfolios=[row.portfolio_id for row in locked])
    return {row.portfolio_id: row for row in rows}


def grant(
    portfolio: int,
    seen_epoch: int,
    owner: Owner,
    cause: GrantCause,
    *,
    lost_owner: bool = False,
    phase: str = "starting",
    run_reason: str = "",
) -> Transaction[GrantRow | None]:
    """Grant `portfolio` to `owner`. Return the new epoch and the last seq.

    Return None if the portfolio was granted since `seen_epoch` was read. `lost_owner`: the node of
    the owner was lost, and this counts as an attempt until the portfolio makes progress. `phase`
    and `run_reason` are those of the run from now on.
    """
    row = yield from query_one(
        GRANT,
        portfolio=portfolio,
        epoch=seen_epoch,
        node=owner.node,
        incarnation=owner.incarnation,
        revision=owner.revision,
        python=owner.python,
        cause=cause.kind,
        why=cause.reason,
        actor=cause.actor[:150],
        handoff=cause.handoff,
        lost_owners=int(lost_owner),
        phase=phase,
        reason=run_reason,
    )
    return row


class AttemptsRow(NamedTuple):
    attempts: int


RAISE_ATTEMPTS = Statement(
    "RAISE_ATTEMPTS",
    """
UPDATE scheduling_run SET
    attempts = attempts + 1,
    failed_seq = coalesce(%(failed_seq)s, failed_seq),
    last_death = coalesce(%(death)s, last_death),
    reason = %(reason)s::text,
    failures_by_node = CASE WHEN %(node_failed)s::text IS NULL THEN failures_by_node
        ELSE jsonb_set(failures_by_node, ARRAY[%(node_failed)s::text],
             to_jsonb(coalesce((failures_by_node ->> %(node_failed)s::text)::int, 0) + 1)) END
WHERE portfolio_id = %(portfolio)s
RETURNING attempts
""",
    row=AttemptsRow,
)


def raise_attempts(
    portfolio: int,
    reason: str,
    *,
    death: str | None = None,
    node_failed: int | None = None,
    failed_seq: int | None = None,
) -> Transaction[int]:
    """Count one exit or failed start of a locked run as an attempt. Return the attempts so far.

    `death`: id of the exit. `node_failed`: the node, if the process failed there before its first
    event. The next progress resets the count; with `failed_seq`, only the commit of that event.
    """
    row = yield from query_one(
        RAISE_ATTEMPTS,
        portfolio=portfolio,
        reason=reason,
        death=death,
        failed_seq=failed_seq,
        node_failed=None if node_failed is None else str(node_failed),
    )
    assert row is not None  # the run is locked, so it exists
    return row.attempts
