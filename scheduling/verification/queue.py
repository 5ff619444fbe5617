"""The queue of verifications: a verification is requested, claimed, reports progress, is finished.

A row belongs to the runner that claimed it. A verification whose runner no longer reports progress
is ended by the next caller of the queue, so that no row stays `running` indefinitely.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.enact.audit_log import audit

#: A runner reports twice a second, but one strategy batch may take a minute.
SILENT_S = 90.0
#: If a verification waits, and no runner has reported progress of any verification for this long,
#: no worker runs.
UNCLAIMED_S = 120.0
#: The requester of scheduled verifications.
SCHEDULE_ACTOR = "schedule"
SILENT_MESSAGE = f"Its runner was not heard of for {SILENT_S:g} s; verify again."
UNCLAIMED_MESSAGE = (
    f"No worker took it within {UNCLAIMED_S:g} s; look whether the worker runs, then verify again."
)

#: No row: a verification of the portfolio is under way (the concurrent writer: another person's
#: request, or a runner that claims the scheduled one).
REQUEST = Statement(
    "REQUEST",
    """
INSERT INTO scheduling_verification AS v (portfolio_id, state, requested_by, requested_at, sentence,
                                          verdict, "full")
VALUES (%(portfolio)s, 'waiting', %(actor)s::text, clock_timestamp(), '', '{}', %(full)s)
-- A scheduled verification that no runner has claimed becomes the person's.
ON CONFLICT (portfolio_id) WHERE state IN ('waiting', 'running') DO UPDATE SET
    requested_by = excluded.requested_by, requested_at = excluded.requested_at,
    "full" = excluded."full", limit_s = NULL
WHERE v.state = 'waiting' AND v.limit_s IS NOT NULL
RETURNING v.id
""",
)

END_ABANDONED = Statement(
    "END_ABANDONED",
    """
UPDATE scheduling_verification v SET state = 'failed', finished_at = clock_timestamp(),
    sentence = CASE WHEN v.state = 'running' THEN %(silent)s::text ELSE %(unclaimed)s::text END
WHERE (v.state = 'running'
       AND v.heard_at < clock_timestamp() - make_interval(secs => %(silent_s)s))
   OR (v.state = 'waiting'
       AND v.requested_at < clock_timestamp() - make_interval(secs => %(unclaimed_s)s)
       -- One that has just finished counts too: its runner is about to claim the next.
       AND NOT EXISTS (SELECT FROM scheduling_verification b
           WHERE b.heard_at >= clock_timestamp() - make_interval(secs => %(unclaimed_s)s)))
""",
)

#: Portfolios with new events and no verification for `every_s`, the one verified longest ago first.
#: A scheduled verification ends at its time limit, and the next one continues from there.
REQUEST_DUE = Statement(
    "REQUEST_DUE",
    """
INSERT INTO scheduling_verification (portfolio_id, state, requested_by, requested_at, sentence,
                                     verdict, limit_s)
SELECT p.id, 'waiting', %(actor)s::text, clock_timestamp(), '', '{}', %(limit_s)s::float
FROM portfolios_portfolio p
JOIN scheduling_run r ON r.portfolio_id = p.id
CROSS JOIN LATERAL (
    SELECT coalesce(max(v.requested_at), '-infinity') AS at FROM scheduling_verification v
    WHERE v.portfolio_id = p.id
) asked
LEFT JOIN LATERAL (
    SELECT max(a.seq) AS seq FROM scheduling_verificationanchor a WHERE a.portfolio_id = p.id
) verified ON true
WHERE p.archived_at IS NULL AND r.last_seq >= p.first_seq
  AND greatest(asked.at, p.created_at) < clock_timestamp() - make_interval(secs => %(every_s)s)
  AND r.last_seq > coalesce(verified.seq, 0)
ORDER BY asked.at, p.id
LIMIT %(most)s
-- The concurrent writer: a person's request, which then stands.
ON CONFLICT (portfolio_id) WHERE state IN ('waiting', 'running') DO NOTHING
RETURNING id
""",
)

#: Two runners that claim concurrently would both count too few running ones: claim in turn.
LOCK_QUEUE = Statement(
    "LOCK_QUEUE", "LOCK TABLE scheduling_verification IN SHARE ROW EXCLUSIVE MODE"
)

CLAIM = Statement(
    "CLAIM",
    """
UPDATE scheduling_verification v SET state = 'running', runner = %(runner)s,
    started_at = clock_timestamp(), heard_at = clock_timestamp()
FROM portfolios_portfolio p
WHERE p.id = v.portfolio_id
  AND v.id = (SELECT w.id FROM scheduling_verification w WHERE w.state = 'waiting'
              ORDER BY w.limit_s IS NOT NULL, w.id LIMIT 1)  -- requests of persons first
  AND (SELECT count(*) FROM scheduling_verification b WHERE b.state = 'running') < %(most)s
RETURNING v.id, p.id AS portfolio, p.name, v."full", v.limit_s
""",
)

#: No row: the verification was ended as abandoned, and the runner must stop.
RECORD_PROGRESS = Statement(
    "RECORD_PROGRESS",
    """
UPDATE scheduling_verification SET heard_at = clock_timestamp(),
    from_seq = %(from_seq)s, at_seq = %(at_seq)s, to_seq = %(to_seq)s
WHERE id = %(verification)s AND runner = %(runner)s AND state = 'running'
RETURNING id
""",
)

FINISH = Statement(
    "FINISH",
    """
UPDATE scheduling_verification SET state = %(state)s::text, finished_at = clock_timestamp(),
    heard_at = clock_timestamp(), sentence = %(sentence)s::text, verdict = %(verdict)s,
    from_seq = coalesce(%(from_seq)s, from_seq), at_seq = coalesce(%(at_seq)s, at_seq),
    to_seq = coalesce(%(to_seq)s, to_seq)
WHERE id = %(verification)s AND runner = %(runner)s AND state = 'running'
RETURNING portfolio_id, limit_s IS NOT NULL AS background
""",
)


def request_verification(
    portfolio: int, actor: str, *, full: bool = False
) -> Transaction[int | None]:
    """Request a verification and return its id, or None if one is under way.

    A scheduled one that no runner has claimed becomes the one requested here.
    """
    yield from end_abandoned()
    # The column takes 150 characters.
    row = yield from query_one(REQUEST, portfolio=portfolio, actor=actor[:150], full=full)
    if row is None:
        return None
    yield from audit(
        "verification_requested", portfolio=portfolio, actor=actor, verification=row.id
    )
    return int(row.id)


def request_due(every_s: float, limit_s: float, most: int) -> Transaction[int]:
    """Request the scheduled verifications that are due, `most` at most; return their number."""
    yield from end_abandoned()
    rows = yield from query(
        REQUEST_DUE, actor=SCHEDULE_ACTOR, every_s=every_s, limit_s=limit_s, most=most
    )
    return len(rows)


def end_abandoned() -> Transaction[None]:
    """Fail verifications whose runner fell silent, and waiting ones that no runner takes."""
    yield from query(
        END_ABANDONED,
        silent=SILENT_MESSAGE, silent_s=SILENT_S, unclaimed=UNCLAIMED_MESSAGE,
        unclaimed_s=UNCLAIMED_S,
    )  # fmt: skip


def claim(runner: UUID, most: int = 1) -> Transaction[Row | None]:
    """Claim a waiting verification for `runner`: (id, portfolio, name, full, limit_s).

    Requests of persons come before scheduled ones, then the first requested. Return None if no
    verification waits, or `most` are running.
    """
    yield from query(LOCK_QUEUE)
    yield from end_abandoned()
    return (yield from query_one(CLAIM, runner=runner, most=most))


def record_progress(
    verification: int, runner: UUID, from_seq: int, at_seq: int, to_seq: int
) -> Transaction[bool]:
    """Record how far the verification is. Return False if it was ended and its runner must stop."""
    row = yield from query_one(
        RECORD_PROGRESS,
        verification=verification, runner=runner, from_seq=from_seq, at_seq=at_seq, to_seq=to_seq,
    )  # fmt: skip
    return row is not None


def finish(
    verification: int, runner: UUID, state: str, sentence: str, verdict: dict[str, Any]
) -> Transaction[bool]:
    """Store outcome and audit line. Return False if the verification was ended as abandoned."""
    row = yield from query_one(
        FINISH,
        verification=verification, runner=runner, state=state, sentence=sentence,
        verdict=Jsonb(verdict), from_seq=verdict.get("from_seq"), at_seq=verdict.get("to_seq"),
        to_seq=verdict.get("to_seq"),
    )  # fmt: skip
    if row is None:
        return False
    if row.background and state == "identical":
        return True  # one line an hour per portfolio would bury the other lines
    yield from audit(
        "verified",
        portfolio=row.portfolio_id, reason=sentence, verification=verification, state=state,
    )  # fmt: skip
    return True
