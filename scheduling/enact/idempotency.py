"""Idempotency keys: a repeated API request is answered as before and does not act again.

A request claims its key in a transaction of its own. Every transaction of the action begins with
`mark`, which fails unless the claim is still the request's. An action outside of the database is
marked directly before it, and `unmark`ed if it is known that nothing was done. So a key whose
process ended has either acted, which its row says, or has not and never will: then the next repeat
takes it over.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from scheduling.db.statements import IdRow, Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.errors import Refused

KEEP_S = 86_400.0  #: how long a repeat gets the first answer
KEPT_PER_USER = 2_000  #: the newest keys of each user, who may send 600 requests a minute
#: After so long without an answer the process of a request counts as ended.
CLAIM_S = 30.0
BATCH = 5_000  #: rows of one deletion


class KeyRow(NamedTuple):
    """A key that a request has claimed before, and its answer if there is one."""

    fingerprint: str
    age_s: float
    acted: bool
    answered: bool
    status: int | None
    headers: Any
    body: str
    is_kept: bool  #: whether status, headers and body are there for a repeat


#: Concurrent writer: a repeat with the same key; it waits for this row and then finds it claimed.
CLAIM = Statement(
    "CLAIM",
    """
WITH beyond AS (
    -- Keys beyond the limit of this user. More than one, since others may have been locked before.
    SELECT id FROM scheduling_idempotencykey
    WHERE id = ANY(ARRAY(
        SELECT id FROM scheduling_idempotencykey WHERE user_id = %(user)s AND key <> %(key)s
        ORDER BY claimed_at DESC OFFSET %(kept)s LIMIT 20))
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM scheduling_idempotencykey k USING beyond WHERE k.id = beyond.id
)
INSERT INTO scheduling_idempotencykey AS k (user_id, key, fingerprint, claim, claimed_at)
VALUES (%(user)s, %(key)s, %(fingerprint)s, %(claim)s, clock_timestamp())
ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint,
    claim = EXCLUDED.claim, claimed_at = EXCLUDED.claimed_at, acted_at = NULL, answered_at = NULL,
    status = NULL, headers = '{}', body = '', is_kept = false
WHERE k.claimed_at < clock_timestamp() - make_interval(secs => %(keep_s)s)
   -- Its process ended before it acted, or is late: `mark` will refuse it.
   OR (k.fingerprint = EXCLUDED.fingerprint AND k.acted_at IS NULL AND k.answered_at IS NULL
       AND k.claimed_at < clock_timestamp() - make_interval(secs => %(claim_s)s))
RETURNING k.id
""",
    row=IdRow,
)

READ_KEY = Statement(
    "READ_KEY",
    """
SELECT fingerprint, extract(epoch FROM clock_timestamp() - claimed_at)::float AS age_s,
       acted_at IS NOT NULL AS acted, answered_at IS NOT NULL AS answered,
       status, headers, body, is_kept
FROM scheduling_idempotencykey WHERE user_id = %(user)s AND key = %(key)s
""",
    row=KeyRow,
)

#: Concurrent writer: a repeat that took the key over. Only one of the two can still act.
MARK = Statement(
    "MARK",
    """
UPDATE scheduling_idempotencykey SET acted_at = coalesce(acted_at, clock_timestamp())
WHERE id = %(id)s AND claim = %(claim)s AND answered_at IS NULL
RETURNING id
""",
    row=IdRow,
)

#: No concurrent writer: nobody can take over a key that has acted. A repeat that took the key over
#: before it was marked has another claim.
UNMARK = Statement(
    "UNMARK",
    """
UPDATE scheduling_idempotencykey SET acted_at = NULL
WHERE id = %(id)s AND claim = %(claim)s AND answered_at IS NULL
""",
)

ANSWER = Statement(
    "ANSWER",
    """
UPDATE scheduling_idempotencykey SET answered_at = clock_timestamp(), status = %(status)s,
    headers = %(headers)s, body = coalesce(%(body)s::text, ''), is_kept = %(body)s::text IS NOT NULL
WHERE id = %(id)s AND claim = %(claim)s AND answered_at IS NULL
""",
)

#: A request that acted keeps its key: its repeat must not act again.
RELEASE = Statement(
    "RELEASE",
    """
DELETE FROM scheduling_idempotencykey
WHERE id = %(id)s AND claim = %(claim)s AND acted_at IS NULL AND answered_at IS NULL
""",
)

PRUNE = Statement(
    "PRUNE",
    """
WITH old AS (
    SELECT id FROM scheduling_idempotencykey
    WHERE claimed_at < clock_timestamp() - make_interval(secs => %(keep_s)s)
    -- Concurrent writer: a request that uses an expired key anew.
    LIMIT %(batch)s FOR UPDATE SKIP LOCKED
)
DELETE FROM scheduling_idempotencykey k USING old WHERE k.id = old.id RETURNING k.id
""",
    row=IdRow,
)


class Claim(NamedTuple):
    """The right of one request to act under a key."""

    id: int
    claim: UUID


def claim_key(user: int, key: str, fingerprint: str) -> Transaction[Claim | KeyRow | None]:
    """Claim a key for a request, or return the key's row if another request has claimed it.

    Return None if that request has just released the key: the client may repeat its own.
    """
    mine = uuid4()
    made = yield from query_one(
        CLAIM, user=user, key=key, fingerprint=fingerprint, claim=mine,
        kept=KEPT_PER_USER - 1, keep_s=KEEP_S, claim_s=CLAIM_S,
    )  # fmt: skip
    if made is not None:
        return Claim(made.id, mine)
    return (yield from query_one(READ_KEY, user=user, key=key))


def mark(mine: Claim) -> Transaction[None]:
    """Record, in the transaction of the action, that the request with this key acts.

    Raise Refused if a repeat of the request has taken the key over: the repeat acts instead.
    """
    if (yield from query_one(MARK, **mine._asdict())) is None:
        raise Refused(
            "request_in_progress",
            f"This request took more than {CLAIM_S:g} s, and a repeat with its idempotency key "
            "acts instead. Repeat the request to get the answer.",
            retry_after_s=1,
        )


def unmark(mine: Claim) -> Transaction[None]:
    """Take the record of `mark` back, since the request did nothing: a repeat may act."""
    yield from query(UNMARK, **mine._asdict())


def answer(
    mine: Claim, status: int, headers: dict[str, str], body: str | None
) -> Transaction[None]:
    """Keep the answer for repeats; without its body (None), repeats are refused instead."""
    yield from query(ANSWER, **mine._asdict(), status=status, headers=Jsonb(headers), body=body)


def release(mine: Claim) -> Transaction[None]:
    """Forget the key of a request that failed before it acted; keep one that has acted."""
    yield from query(RELEASE, **mine._asdict())


def prune_keys() -> Transaction[int]:
    """Delete a batch of expired keys; return how many."""
    return len((yield from query(PRUNE, keep_s=KEEP_S, batch=BATCH)))
