"""The life of a verification: asked for, claimed by a runner, heard of, ended.

A row belongs to the runner that claimed it. One that is not heard of any more is ended by whoever
looks next for work, so that nothing runs for ever on paper.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.enact.audit_log import audit

#: A runner writes once a second; one strategy batch may take a minute.
SILENT_S = 90.0
#: Nobody claimed it, and nobody was heard of with another for so long: there is no worker.
UNCLAIMED_S = 120.0
#: Who asked, where the schedule did.
BACKGROUND = "schedule"
SILENT = f"Its runner was not heard of for {SILENT_S:g} s; verify again."
UNCLAIMED = (
    f"No worker took it within {UNCLAIMED_S:g} s; look whether the worker runs, then verify again."
)

#: The rival that may win: another person who asked. Then there is no row.
ASK = Statement(
    "ASK",
    """
INSERT INTO scheduling_verification AS v (portfolio_id, state, requested_by, requested_at, sentence,
                                          verdict, "full")
VALUES (%(portfolio)s, 'waiting', %(actor)s::text, clock_timestamp(), '', '{}', %(full)s)
-- What the schedule asked for and nobody took yet becomes the person's.
ON CONFLICT (portfolio_id) WHERE state IN ('waiting', 'running') DO UPDATE SET
    requested_by = excluded.requested_by, requested_at = excluded.requested_at,
    "full" = excluded."full", limit_s = NULL
WHERE v.state = 'waiting' AND v.limit_s IS NOT NULL
RETURNING v.id
""",
)

ABANDONED = Statement(
    "ABANDONED",
    """
UPDATE scheduling_verification v SET state = 'failed', finished_at = clock_timestamp(),
    sentence = CASE WHEN v.state = 'running' THEN %(silent)s::text ELSE %(unclaimed)s::text END
WHERE (v.state = 'running'
       AND v.heard_at < clock_timestamp() - make_interval(secs => %(silent_s)s))
   OR (v.state = 'waiting'
       AND v.requested_at < clock_timestamp() - make_interval(secs => %(unclaimed_s)s)
       -- One that has just ended counts too: its runner is about to take the next.
       AND NOT EXISTS (SELECT FROM scheduling_verification b
           WHERE b.heard_at >= clock_timestamp() - make_interval(secs => %(unclaimed_s)s)))
""",
)

#: Portfolios without a verification for so long, those verified longest ago first. What was begun
#: in the background ends by itself, and the next one goes on from there.
ASK_DUE = Statement(
    "ASK_DUE",
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
-- The concurrent writer: a person who asks. Then theirs is the one.
ON CONFLICT (portfolio_id) WHERE state IN ('waiting', 'running') DO NOTHING
RETURNING id
""",
)

#: Two runners that look at once would both find nobody busy: one looks after the other.
ONE_LOOKS = Statement("ONE_LOOKS", "LOCK TABLE scheduling_verification IN SHARE ROW EXCLUSIVE MODE")

CLAIM = Statement(
    "CLAIM",
    """
UPDATE scheduling_verification v SET state = 'running', runner = %(runner)s,
    started_at = clock_timestamp(), heard_at = clock_timestamp()
FROM portfolios_portfolio p
WHERE p.id = v.portfolio_id
  AND v.id = (SELECT w.id FROM scheduling_verification w WHERE w.state = 'waiting'
              ORDER BY w.limit_s IS NOT NULL, w.id LIMIT 1)  -- a person's first
  AND (SELECT count(*) FROM scheduling_verification b WHERE b.state = 'running') < %(most)s
RETURNING v.id, p.id AS portfolio, p.name, v."full", v.limit_s
""",
)

#: No row: it was taken for dead meanwhile, and what it would write counts no more.
HEARD = Statement(
    "HEARD",
    """
UPDATE scheduling_verification SET heard_at = clock_timestamp(),
    from_seq = %(from_seq)s, at_seq = %(at_seq)s, to_seq = %(to_seq)s
WHERE id = %(verification)s AND runner = %(runner)s AND state = 'running'
RETURNING id
""",
)

END = Statement(
    "END",
    """
UPDATE scheduling_verification SET state = %(state)s::text, finished_at = clock_timestamp(),
    heard_at = clock_timestamp(), sentence = %(sentence)s::text, verdict = %(verdict)s,
    from_seq = coalesce(%(from_seq)s, from_seq), at_seq = coalesce(%(at_seq)s, at_seq),
    to_seq = coalesce(%(to_seq)s, to_seq)
WHERE id = %(verification)s AND runner = %(runner)s AND state = 'running'
RETURNING portfolio_id, limit_s IS NOT NULL AS background
""",
)


def ask(portfolio: int, actor: str, *, full: bool = False) -> Transaction[int | None]:
    """Return the number of a new verification, or None where one is under way."""
    yield from end_abandoned()
    row = yield from query_one(ASK, portfolio=portfolio, actor=actor[:150], full=full)
    if row is None:
        return None
    yield from audit(
        "verification_requested", portfolio=portfolio, actor=actor, verification=row.id
    )
    return int(row.id)


def ask_due(every_s: float, limit_s: float, most: int) -> Transaction[int]:
    """Ask for the verifications that are due in the background; return how many."""
    yield from end_abandoned()
    rows = yield from query(ASK_DUE, actor=BACKGROUND, every_s=every_s, limit_s=limit_s, most=most)
    return len(rows)


def end_abandoned() -> Transaction[None]:
    """End what nobody works on any more."""
    yield from query(
        ABANDONED,
        silent=SILENT,
        silent_s=SILENT_S,
        unclaimed=UNCLAIMED,
        unclaimed_s=UNCLAIMED_S,
    )


def claim(runner: UUID, most: int = 1) -> Transaction[Row | None]:
    """Take the oldest that waits: (id, portfolio, name, full, limit_s). None: nothing waits, or
    `most` run already."""
    yield from query(ONE_LOOKS)
    yield from end_abandoned()
    return (yield from query_one(CLAIM, runner=runner, most=most))


def heard(
    verification: int, runner: UUID, from_seq: int, at_seq: int, to_seq: int
) -> Transaction[bool]:
    """Note how far it is. False: stop, it was taken for dead."""
    row = yield from query_one(
        HEARD,
        verification=verification,
        runner=runner,
        from_seq=from_seq,
        at_seq=at_seq,
        to_seq=to_seq,
    )
    return row is not None


def end(
    verification: int, runner: UUID, state: str, sentence: str, verdict: dict[str, Any]
) -> Transaction[bool]:
    """Write the outcome, and a line in the trail. False: it was taken for dead."""
    row = yield from query_one(
        END,
        verification=verification,
        runner=runner,
        state=state,
        sentence=sentence,
        verdict=Jsonb(verdict),
        from_seq=verdict.get("from_seq"),
        at_seq=verdict.get("to_seq"),
        to_seq=verdict.get("to_seq"),
    )
    if row is None:
        return False
    if row.background and state == "identical":
        return True  # one line an hour for each portfolio would bury the others
    yield from audit(
        "verified",
        portfolio=row.portfolio_id,
        reason=sentence,
        verification=verification,
        state=state,
    )
    return True
