"""Statements that several transitions share, and the order of their locks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, Statement
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.enact.grant import GrantRow, lock_run

#: A writer of a handoff has locked its run first, so these locks are taken in order.
ACTIVE_HANDOFFS = Statement(
    "ACTIVE_HANDOFFS",
    f"""
SELECT * FROM scheduling_handoff
WHERE portfolio_id = ANY(%(portfolios)s::bigint[]) AND state IN {ACTIVE_HANDOFF_STATES}
ORDER BY portfolio_id FOR UPDATE
""",
)

LOCK_HANDOFF = Statement(
    "LOCK_HANDOFF",
    """
-- A node that has left is not valid, whatever its lease: a heartbeat that waited for the goodbye
-- may have renewed the lease.
SELECT h.*, l.incarnation AS target_lease,
       l.expires_at > clock_timestamp() AND t.status <> 'left' AS target_valid,
       t.name AS target_name, s.name AS source_name, sl.incarnation AS source_lease,
       sl.expires_at > clock_timestamp() AND s.status <> 'left' AS source_valid,
       s.status AS source_status, s.draining OR s.leaving AS source_drains,
       (SELECT v.status FROM portfolios_revision v WHERE v.portfolio_id = h.portfolio_id
        AND v.number = h.from_revision) AS from_status
FROM scheduling_handoff h
LEFT JOIN scheduling_node t ON t.id = h.target_node_id
LEFT JOIN scheduling_lease l ON l.node_id = h.target_node_id
LEFT JOIN scheduling_node s ON s.id = h.source_node_id
LEFT JOIN scheduling_lease sl ON sl.node_id = h.source_node_id
WHERE h.id = %(handoff)s
FOR UPDATE OF h
""",
)


class NamedHandoffRow(NamedTuple):
    portfolio_id: int
    target_node_id: int | None
    target_incarnation: UUID | None


PORTFOLIO_OF = Statement(
    "PORTFOLIO_OF",
    """
SELECT portfolio_id, target_node_id, target_incarnation FROM scheduling_handoff
WHERE id = %(handoff)s
""",
    row=NamedHandoffRow,
)


class TargetRow(NamedTuple):
    """A node that may become the target; `held`: the places that runs and handoffs take there."""

    id: int
    name: str
    capacity: int
    incarnation: UUID | None
    valid: bool | None
    held: int
    storm_held: bool


#: Read under the lock of the node rows, so that two requests cannot both take the last capacity.
#: This is the last read before anything is written, so it also reads whether failover is held.
TARGETS = Statement(
    "TARGETS",
    f"""
SELECT n.id, n.name, n.capacity, l.incarnation,
       l.expires_at > clock_timestamp() AND n.status <> 'left' AS valid,
       (SELECT coalesce(sum(p.weight), 0) FROM portfolios_portfolio p
        WHERE p.id IN (
            SELECT r.portfolio_id FROM scheduling_run r WHERE r.node_id = n.id
            UNION SELECT h.portfolio_id FROM scheduling_handoff h
                -- A handoff needs room on its source, too: a rollback returns the portfolio there.
                WHERE n.id IN (h.source_node_id, h.target_node_id)
                  AND h.state IN {ACTIVE_HANDOFF_STATES}
        ))::int AS held,
       EXISTS (SELECT FROM scheduling_storm s WHERE s.held_at IS NOT NULL) AS storm_held
FROM scheduling_node n LEFT JOIN scheduling_lease l ON l.node_id = n.id
WHERE n.id = ANY(%(nodes)s::bigint[])
""",
    row=TargetRow,
)

#: Seconds added to the deadline of *prepare* where the target may have to build an environment. Not
#: for a failover: after a missed deadline it goes to another node, which may have the environment
#: already, while this one goes on building.
ENVIRONMENT_BUILD_S = 330.0


def build_s(kind: str, portfolio: str, revision: str) -> str:
    """Return an SQL expression of the seconds that building a revision's environment may take."""
    return f"""CASE WHEN {kind} <> 'failover' AND EXISTS (
        SELECT FROM portfolios_revision v
        JOIN portfolios_artifact a ON a.sha256 = v.artifact_sha256
        WHERE v.portfolio_id = {portfolio} AND v.number = {revision} AND a.env_sha256 <> '')
    THEN {ENVIRONMENT_BUILD_S} ELSE 0 END::float8"""


#: A unique index allows one active handoff per portfolio. The run is locked.
INSERT = Statement(
    "INSERT",
    f"""
INSERT INTO scheduling_handoff (portfolio_id, kind, state, reason, why, requested_by,
    source_node_id, source_incarnation, target_node_id, target_incarnation,
    from_epoch, from_revision, to_revision, release_answer, error, deadline_at, requested_at)
SELECT i.portfolio, i.kind, i.state, i.reason, i.why, %(actor)s::text, i.source,
    i.source_incarnation, i.target, i.target_incarnation, i.from_epoch, i.from_revision,
    i.to_revision, '', '', clock_timestamp() + make_interval(secs => i.deadline_s
        + {build_s("i.kind", "i.portfolio", "i.to_revision")}),
    clock_timestamp()
FROM unnest(%(portfolio)s::bigint[], %(kind)s::text[], %(state)s::text[], %(reason)s::text[],
    %(why)s::jsonb[], %(source)s::bigint[], %(source_incarnation)s::uuid[],
    %(target)s::bigint[], %(target_incarnation)s::uuid[], %(from_epoch)s::bigint[],
    %(from_revision)s::int[], %(to_revision)s::int[], %(deadline_s)s::float8[])
    AS i(portfolio, kind, state, reason, why, source, source_incarnation, target,
         target_incarnation, from_epoch, from_revision, to_revision, deadline_s)
RETURNING *
""",
)

#: Concurrent writer: another transition that ends the same handoff; the first one wins.
SUPERSEDE = Statement(
    "SUPERSEDE",
    f"""
UPDATE scheduling_handoff h SET state = 'superseded', error = i.why,
    deadline_at = clock_timestamp(), finished_at = clock_timestamp()
FROM unnest(%(handoffs)s::bigint[], %(whys)s::text[]) AS i(handoff, why)
WHERE h.id = i.handoff AND h.state IN {ACTIVE_HANDOFF_STATES}
RETURNING h.*
""",
)

#: The condition on the state is the fence of the state machine: the first transition wins.
MOVE = Statement(
    "MOVE",
    """
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
""",
)

#: Store the grant that a handoff led to. No concurrent writer: the run is locked.
GRANTED = Statement(
    "GRANTED",
    """
UPDATE scheduling_handoff SET
    state = %(to)s::text, to_epoch = %(to_epoch)s, granted_at = clock_timestamp(),
    released_at = CASE WHEN %(released)s THEN clock_timestamp() END,
    released_seq = %(released_seq)s, release_batch = %(batch)s, release_answer = %(answer)s::text,
    prepared_at = coalesce(prepared_at, clock_timestamp()),
    error = CASE WHEN %(error)s::text = '' THEN error ELSE %(error)s::text END,
    finished_at = CASE WHEN %(to)s::text = 'done' THEN clock_timestamp() END,
    deadline_at = clock_timestamp() + make_interval(secs => %(deadline_s)s)
WHERE id = %(handoff)s
""",
)

#: Store the answer `keep` to a release, so that a repeat gets the same one. The first answer stays.
STORE_ANSWER = Statement(
    "STORE_ANSWER",
    """
UPDATE scheduling_handoff SET release_batch = %(batch)s, release_answer = 'keep',
    error = CASE WHEN error = '' THEN %(error)s::text ELSE error END
WHERE id = %(handoff)s AND release_batch IS NULL
""",
)

#: Change the phase of a run, unless it was granted since. Without a reason, the run keeps its own.
SET_PHASE = Statement(
    "SET_PHASE",
    """
UPDATE scheduling_run SET phase = %(phase)s::text, phase_since = clock_timestamp(),
    reason = coalesce(%(reason)s::text, reason)
WHERE portfolio_id = %(portfolio)s AND epoch = %(epoch)s AND phase <> %(phase)s::text
""",
)


def lock_run_and_handoff(
    handoff_id: int, *, portfolio: int | None = None, target: tuple[int, UUID] | None = None
) -> Transaction[tuple[Row, Row] | None]:
    """Lock the run, then the handoff, and return both. Return None if either was deleted.

    Return None, before anything is locked, also if the handoff belongs to another `portfolio`, or
    has another `target` (a node and its incarnation): a daemon can name any handoff, and while a
    run is locked, the commits of its owner do not pass.
    """
    named = yield from query_one(PORTFOLIO_OF, handoff=handoff_id)
    if (
        named is None
        or portfolio not in (None, named.portfolio_id)
        or target not in (None, (named.target_node_id, named.target_incarnation))
    ):
        return None
    run = yield from lock_run(named.portfolio_id)
    row = yield from query_one(LOCK_HANDOFF, handoff=handoff_id)
    return None if run is None or row is None else (run, row)


def record_grant(
    handoff_id: int,
    state: str,
    given: GrantRow,
    *,
    released: bool = False,
    batch: UUID | None = None,
    answer: str = "",
    error: str = "",
    deadline_s: float = 0,
) -> Transaction[None]:
    """Record the grant that a handoff led to, and move the handoff to `state`.

    `released`: the source released the portfolio itself, by the commit `batch`, which got `answer`.
    `error`: what failed before the grant. `deadline_s`: seconds until the next step is overdue.
    """
    yield from query(
        GRANTED,
        handoff=handoff_id,
        to=state,
        to_epoch=given.epoch,
        released=released,
        released_seq=given.last_seq,
        batch=batch,
        answer=answer,
        error=error,
        deadline_s=deadline_s,
    )


def active_handoff(portfolio: int) -> Transaction[Row | None]:
    """Lock and return the active handoff of `portfolio`, or None. The run is locked already."""
    return (yield from query_one(ACTIVE_HANDOFFS, portfolios=[portfolio]))


@dataclass(frozen=True, slots=True)
class NewHandoff:
    """The columns of a new handoff, as INSERT takes them."""

    portfolio: int
    kind: str
    state: str
    reason: str
    why: Jsonb | None
    source: int | None
    source_incarnation: UUID | None
    target: int | None
    target_incarnation: UUID | None
    from_epoch: int
    from_revision: int
    to_revision: int
    deadline_s: float


def insert(new: Sequence[NewHandoff], actor: str) -> Transaction[list[Row]]:
    """Write handoffs in one statement and return their rows. The runs are locked."""
    columns = {f.name: [getattr(each, f.name) for each in new] for f in fields(NewHandoff)}
    return (yield from query(INSERT, actor=actor[:150], **columns))
