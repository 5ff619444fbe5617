"""Revoke every portfolio from every node in one transaction, for halt and epoch floor.

Set-based, so that ten thousand portfolios take a second or two. Locks are taken in the usual order,
so commits, grants and registers under way are waited for and then fenced.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, Statement
from scheduling.db.transaction import Transaction, query

#: Wait longer for row locks than other transactions do: a frozen client loses its transaction
#: after 15 s at the latest (`idle_in_transaction_session_timeout`), and this transaction must then
#: go on. It computes ten thousand rows between two of its statements, so it may also be idle
#: for longer than others.
SET_LIMITS = Statement(
    "SET_LIMITS",
    """
SELECT set_config('lock_timeout', '20s', true) AS lock_timeout,
       set_config('statement_timeout', '60s', true) AS statement_timeout,
       set_config('idle_in_transaction_session_timeout', '15s', true) AS idle_timeout
""",
)

#: Seconds for which the client waits for a statement of such a transaction: longer than the server.
PATIENT_LIMIT_S = 65.0

LOCK_LEASES = Statement(
    "LOCK_LEASES", "SELECT node_id FROM scheduling_lease ORDER BY node_id FOR UPDATE"
)

LOCK_PORTFOLIOS = Statement(
    "LOCK_PORTFOLIOS", "SELECT id FROM portfolios_portfolio ORDER BY id FOR NO KEY UPDATE"
)

LOCK_RUNS = Statement(
    "LOCK_RUNS", "SELECT portfolio_id FROM scheduling_run ORDER BY portfolio_id FOR UPDATE"
)

LOCK_HANDOFFS = Statement(
    "LOCK_HANDOFFS",
    f"""
SELECT id FROM scheduling_handoff
WHERE state IN {ACTIVE_HANDOFF_STATES} ORDER BY id FOR UPDATE
""",
)


class FleetRow(NamedTuple):
    """A run with its portfolio, node and active handoff."""

    portfolio_id: int
    name: str
    desired_state: str
    archived: bool
    epoch: int
    node_id: int | None
    node: str | None
    phase: str
    reason: str
    last_seq: int
    halt_id: int | None
    handoff: int | None
    kind: str | None  #: of the handoff
    source_node_id: int | None
    target_node_id: int | None


#: A statement after the locks, whose snapshot includes the transactions that were waited for.
FLEET = Statement(
    "FLEET",
    f"""
SELECT r.portfolio_id, p.name, p.desired_state, p.archived_at IS NOT NULL AS archived, r.epoch,
       r.node_id, n.name AS node, r.phase, r.reason, r.last_seq, r.halt_id, h.id AS handoff,
       h.kind, h.source_node_id, h.target_node_id
FROM scheduling_run r
JOIN portfolios_portfolio p ON p.id = r.portfolio_id
LEFT JOIN scheduling_node n ON n.id = r.node_id
LEFT JOIN scheduling_handoff h ON h.portfolio_id = r.portfolio_id
    AND h.state IN {ACTIVE_HANDOFF_STATES}
ORDER BY p.name, p.id
""",
    row=FleetRow,
)


class NowRow(NamedTuple):
    at: datetime


NOW = Statement("NOW", "SELECT clock_timestamp() AS at", row=NowRow)


class RevokedRow(NamedTuple):
    portfolio_id: int
    epoch: int


REVOKE = Statement(
    "REVOKE",
    """
WITH input AS MATERIALIZED (
    SELECT * FROM unnest(%(portfolios)s::bigint[], %(phases)s::text[], %(reasons)s::text[],
                         %(whys)s::jsonb[], %(halts)s::bigint[])
        AS i(portfolio, phase, reason, why, halt)
), taken AS (
    -- No concurrent writer: the run is locked, and last_seq includes every earlier commit.
    UPDATE scheduling_run r SET
        epoch = r.epoch + %(by)s,
        node_id = NULL, incarnation = NULL,
        granted_at = %(at)s, first_commit_at = NULL, batch = NULL,
        phase = i.phase, reason = i.reason, why = coalesce(i.why, r.why), halt_id = i.halt,
        phase_since = CASE WHEN r.phase <> i.phase THEN %(at)s ELSE r.phase_since END
    FROM input i WHERE r.portfolio_id = i.portfolio
    RETURNING r.portfolio_id, r.epoch, r.revision, r.last_seq
), ended AS (
    UPDATE scheduling_tenure t SET to_seq = x.last_seq, ended_at = %(at)s
    FROM taken x WHERE t.portfolio_id = x.portfolio_id AND t.ended_at IS NULL
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT %(at)s, 'ended', x.portfolio_id, NULL, %(actor)s::text, %(why)s::text,
           jsonb_build_object('epoch', x.epoch, 'incarnation', NULL, 'revision', x.revision,
                              'from_seq', x.last_seq, 'cause', %(cause)s::text, 'handoff', NULL)
           || d.data
    FROM taken x
    JOIN unnest(%(portfolios)s::bigint[], %(data)s::jsonb[]) AS d(portfolio, data)
        ON d.portfolio = x.portfolio_id
)
SELECT portfolio_id, epoch FROM taken
""",
    row=RevokedRow,
)

SUPERSEDE_ALL = Statement(
    "SUPERSEDE_ALL",
    f"""
WITH superseded AS (
    UPDATE scheduling_handoff SET state = 'superseded', error = %(why)s::text,
        deadline_at = %(at)s, finished_at = %(at)s
    WHERE state IN {ACTIVE_HANDOFF_STATES}
    RETURNING id, portfolio_id
)
INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
SELECT %(at)s, 'handoff_superseded', portfolio_id, NULL, %(actor)s::text, %(why)s::text,
       jsonb_build_object('handoff', id)
FROM superseded
""",
)


class Revocation(NamedTuple):
    """The new state of one run that is revoked."""

    portfolio: int
    phase: str
    reason: str
    halt: int | None
    data: object  #: Jsonb: additional data of its event
    why: object = None  #: Jsonb: `reason` as data, if it has a code


def lock_fleet(*, leases: bool = False) -> Transaction[list[FleetRow]]:
    """Lock all portfolios, runs and active handoffs, in that order. Return runs sorted by name.

    With `leases`, lock all leases first.
    """
    yield from query(SET_LIMITS)
    if leases:
        yield from query(LOCK_LEASES)
    yield from query(LOCK_PORTFOLIOS)
    yield from query(LOCK_RUNS)
    yield from query(LOCK_HANDOFFS)
    return (yield from query(FLEET))


def revoke_all(
    revocations: Sequence[Revocation],
    *,
    raise_by: int,
    at: datetime,
    cause: str,
    why: str,
    actor: str,
) -> Transaction[dict[int, int]]:
    """End all active handoffs, and the ownership of each run to revoke.

    The epoch of such a run rises by `raise_by`; `cause`, a code, and `why` go to the audit log.
    Return portfolio → new epoch. The caller holds the locks of `lock_fleet`.
    """
    yield from query(SUPERSEDE_ALL, why=why, at=at, actor=actor[:150])
    rows = yield from query(
        REVOKE,
        portfolios=[one.portfolio for one in revocations],
        phases=[one.phase for one in revocations],
        reasons=[one.reason for one in revocations],
        whys=[one.why for one in revocations],
        halts=[one.halt for one in revocations],
        data=[one.data for one in revocations],
        by=raise_by,
        at=at,
        cause=cause,
        why=why,
        actor=actor[:150],
    )
    return {row.portfolio_id: row.epoch for row in rows}


def is_wanted(row: FleetRow) -> bool:
    """Return whether the portfolio of this run should be running. Pure."""
    return row.desired_state == "running" and not row.archived


def nodes_of(fleet: Sequence[FleetRow]) -> set[int]:
    """Return the nodes whose desired sets contain any run of `fleet`. Pure."""
    nodes = {n for row in fleet for n in (row.node_id, row.source_node_id, row.target_node_id)}
    return {node for node in nodes if node is not None}
