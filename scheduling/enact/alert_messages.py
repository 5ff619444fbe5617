"""Messages about alerts: taken one by one by the worker, tried again a bounded number of times.

A message is claimed before it is sent, by setting the time of its next try. If the worker ends
while it sends, the message is tried again: a receiver may get it twice, but does not miss it.
"""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query, query_one

MAX_ATTEMPTS = 6  #: after 10, 20, 40 … seconds: about five minutes
FIRST_RETRY_S = 10.0  #: from the first attempt to the second; then twice as long each time
#: Seconds after which a message is given up: the desk then shows the alert with newer facts.
DEADLINE_S = 3600.0
KEEP_S = 30 * 86_400.0  #: how long sent and failed messages are kept
BATCH = 1_000  #: rows of one deletion


class MessageRow(NamedTuple):
    """A message that this worker may send."""

    id: int
    channel: str
    from_environment: bool
    what: str  #: opened, closed or test
    title: str
    body: str
    attempts: int


CLAIM = Statement(
    "CLAIM",
    """
WITH due AS (
    -- Concurrent writer: another worker; each takes a message of its own, the one due first.
    SELECT m.id FROM scheduling_alertmessage m
    WHERE m.state = 'waiting' AND m.next_try_at <= clock_timestamp()
    ORDER BY m.next_try_at, m.id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE scheduling_alertmessage m SET attempts = m.attempts + 1,
    next_try_at = clock_timestamp() + make_interval(secs => %(first_s)s * 2.0 ^ m.attempts)
FROM due, scheduling_alertchannel c
WHERE m.id = due.id AND c.id = m.channel_id
RETURNING m.id, c.name AS channel, c.from_environment, m.what, m.title, m.body, m.attempts
""",
    row=MessageRow,
)

SENT = Statement(
    "SENT",
    """
UPDATE scheduling_alertmessage SET state = 'sent', sent_at = clock_timestamp(), error = ''
WHERE id = %(message)s AND state = 'waiting'
""",
)

FAILED = Statement(
    "FAILED",
    """
UPDATE scheduling_alertmessage SET error = %(error)s,
    state = CASE WHEN attempts >= %(most)s THEN 'failed' ELSE state END
WHERE id = %(message)s AND state = 'waiting'
""",
)

GIVE_UP = Statement(
    "GIVE_UP",
    """
UPDATE scheduling_alertmessage SET state = 'failed',
    error = left('not delivered in ' || %(deadline_s)s::float || ' s'
                 || coalesce(': ' || nullif(error, ''), ''), 300)
WHERE state = 'waiting' AND at < clock_timestamp() - make_interval(secs => %(deadline_s)s)
RETURNING id
""",
)

PRUNE = Statement(
    "PRUNE",
    """
WITH old AS (
    SELECT id FROM scheduling_alertmessage
    WHERE at < clock_timestamp() - make_interval(secs => %(keep_s)s) AND state <> 'waiting'
    ORDER BY at LIMIT %(batch)s
)
DELETE FROM scheduling_alertmessage m USING old WHERE m.id = old.id RETURNING m.id
""",
)


def claim() -> Transaction[MessageRow | None]:
    """Claim the next message that is due; None if there is none."""
    return (yield from query_one(CLAIM, first_s=FIRST_RETRY_S))


def record_sent(message: int) -> Transaction[None]:
    """Record that the channel accepted the message."""
    yield from query(SENT, message=message)


def record_failed(message: int, error: str) -> Transaction[None]:
    """Record a failed attempt to send; after MAX_ATTEMPTS the message has failed for good."""
    yield from query(FAILED, message=message, error=error[:300], most=MAX_ATTEMPTS)


def give_up_late() -> Transaction[int]:
    """Mark messages failed that were not delivered within DEADLINE_S; return how many."""
    return len((yield from query(GIVE_UP, deadline_s=DEADLINE_S)))


def prune_alert_messages() -> Transaction[int]:
    """Delete at most BATCH sent or failed messages that are older than KEEP_S; return how many."""
    return len((yield from query(PRUNE, keep_s=KEEP_S, batch=BATCH)))
