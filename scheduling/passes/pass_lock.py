"""The pass lock: one pass at a time, and a lock that ends.

An advisory lock held by a frozen process would block every pass for ever. This one is a row with
an end; overlap after the end is harmless, since every enact is compare-and-set.
"""

from __future__ import annotations

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query, query_one

HOLD_S = 5.0

TAKE = Statement(
    "TAKE",
    """
INSERT INTO scheduling_passlock AS l (name, holder, until)
VALUES ('pass', %(holder)s::text, clock_timestamp() + make_interval(secs => %(hold_s)s))
-- The rival that may win: a pass that holds it and has not outlived its time.
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE l.holder = excluded.holder OR l.until < clock_timestamp()
       -- Nobody holds it for longer than that: the clock was set back.
       OR l.until > excluded.until + interval '1 s'
RETURNING holder
""",
)

DROP = Statement(
    "DROP",
    """
UPDATE scheduling_passlock SET until = clock_timestamp()
WHERE name = 'pass' AND holder = %(holder)s::text
""",
)


RAN = Statement(
    "RAN", "UPDATE scheduling_passlock SET failover_ran_at = clock_timestamp() WHERE name = 'pass'"
)

#: Written once a second at most. A gap begins `since` anew.
LOOK = Statement(
    "LOOK",
    """
INSERT INTO scheduling_passlock AS l (name, holder, until, since)
VALUES ('watcher', %(holder)s::text, clock_timestamp() + make_interval(secs => %(hold_s)s),
        clock_timestamp())
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until,
    since = CASE WHEN l.until BETWEEN clock_timestamp() AND excluded.until
                 THEN least(l.since, excluded.since) ELSE excluded.since END
    WHERE l.until NOT BETWEEN excluded.until - interval '1 s' AND excluded.until
""",
)


def acquire(holder: str) -> Transaction[bool]:
    """Take or renew the lock for HOLD_S. False: another pass holds it."""
    return (yield from query_one(TAKE, holder=holder, hold_s=HOLD_S)) is not None


def record_pass() -> Transaction[None]:
    """Note that a whole pass, failover included, has ended now."""
    yield from query(RAN)


def record_watcher_seen(holder: str) -> Transaction[None]:
    """Note that a watcher lives: where none does, nobody promised a pass every few seconds."""
    yield from query(LOOK, holder=holder, hold_s=HOLD_S)


def release(holder: str) -> Transaction[None]:
    """Let the next pass in at once."""
    yield from query_one(DROP, holder=holder)
