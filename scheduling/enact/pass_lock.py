"""The pass lock: one pass at a time. The delivery of alerts has a lock of the same kind.

An advisory lock held by a frozen process would block every pass indefinitely. This lock is a row
with an expiry time. Two passes may overlap after that time, which is harmless: each change of a
pass is conditional on the state that the pass has read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from scheduling.db.statements import GATEWAY_FIT, Statement
from scheduling.db.transaction import Transaction, execute_autocommit, query, query_one

HOLD_S = 5.0  #: until a lock expires that its holder does not renew
#: A watcher records about every second that it runs ("looks"). If no watcher does for this long, an
#: alert opens; the restart of a watcher takes about 3 s.
WATCHER_LIMIT_S = 10.0
#: The limit if all processes crashed: a watcher starts at the same time as the web process.
WATCHER_START_S = 30.0
#: The limit if the last watcher stopped in order: the launcher ends its watcher first, and its web
#: processes up to 120 s later.
WATCHER_LEFT_S = 120.0
#: Without a watcher, workers run a pass every 30 s; no pass for this long means no worker either.
NO_PASS_S = 60.0

ACQUIRE = Statement(
    "ACQUIRE",
    """
INSERT INTO scheduling_passlock AS l (name, holder, until)
VALUES (%(name)s::text, %(holder)s::text,
        clock_timestamp() + make_interval(secs => %(hold_s)s))
-- The concurrent writer: a process that holds the lock, which has not expired.
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE l.holder = excluded.holder OR l.until < clock_timestamp()
       -- No holder may set a later expiry: the clock was set back.
       OR l.until > excluded.until + interval '1 s'
RETURNING holder
""",
)

RELEASE = Statement(
    "RELEASE",
    """
UPDATE scheduling_passlock SET until = clock_timestamp()
WHERE name = %(name)s::text AND holder = %(holder)s::text
""",
)

RECORD_PASS = Statement(
    "RECORD_PASS",
    "UPDATE scheduling_passlock SET failover_ran_at = clock_timestamp() WHERE name = 'pass'",
)

#: Written once a second at most. After a gap, `since` starts again.
RECORD_WATCHER_SEEN = Statement(
    "RECORD_WATCHER_SEEN",
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

#: Concurrent writer: another watcher, which looks again within a second.
RECORD_WATCHER_LEFT = Statement(
    "RECORD_WATCHER_LEFT",
    """
UPDATE scheduling_passlock SET holder = '' WHERE name = 'watcher' AND holder = %(holder)s::text
""",
)


#: The cause of an alert, with the columns of `wanted` in alerts.py. Web processes evaluate it
#: (scheduling/dead_mans_switch.py), since no other process may be left. It requires that a gateway
#: has been fit for the whole limit: after a start, an outage of the database or a clock that was
#: set, the watcher then looks before the limit has passed. The limit is longer for a watcher that
#: stopped in order, or that last looked before any present gateway was fit: a new one may be about
#: to start. A watcher that never ran is not missing.
NO_WATCHER = f"""
    SELECT 'no_watcher', 'fleet', NULL::bigint, NULL::bigint,
           'no watcher has looked since '
               || to_char((w.until - make_interval(secs => %(hold_s)s)) AT TIME ZONE 'UTC',
                          'YYYY-MM-DD HH24:MI:SS" UTC"')
               || ', limit ' || allowed.s || ' s: '
               || CASE WHEN p.failover_ran_at
                            > clock_timestamp() - make_interval(secs => %(no_pass_s)s)
                  THEN 'a lost node waits for the next pass of a worker'
                  ELSE 'no worker runs passes either, so nothing fails over' END
               || '; start a watcher, or see its log',
           true
    FROM scheduling_passlock w
    CROSS JOIN LATERAL (SELECT CASE WHEN w.holder = '' THEN %(watcher_left_s)s::float
        WHEN EXISTS (SELECT FROM scheduling_gateway g WHERE {GATEWAY_FIT}
            AND g.serving_since < w.until - make_interval(secs => %(hold_s)s))
        THEN %(watcher_limit_s)s::float ELSE %(watcher_start_s)s::float END AS s) allowed
    LEFT JOIN scheduling_passlock p ON p.name = 'pass'
    WHERE w.name = 'watcher'
      AND w.until < clock_timestamp() - make_interval(secs => allowed.s - %(hold_s)s)
      AND EXISTS (SELECT FROM scheduling_gateway g WHERE {GATEWAY_FIT}
                  AND g.serving_since < clock_timestamp() - make_interval(secs => allowed.s))
"""

LIMITS = {  #: parameters of NO_WATCHER
    "watcher_limit_s": WATCHER_LIMIT_S,
    "watcher_start_s": WATCHER_START_S,
    "watcher_left_s": WATCHER_LEFT_S,
    "hold_s": HOLD_S,
    "no_pass_s": NO_PASS_S,
}


def acquire(holder: str, name: str = "pass", hold_s: float = HOLD_S) -> Transaction[bool]:
    """Take or renew the lock for `hold_s`. Return False if another process holds it."""
    return (yield from query_one(ACQUIRE, name=name, holder=holder, hold_s=hold_s)) is not None


def record_pass() -> Transaction[None]:
    """Record that a complete pass, failover included, has just ended."""
    yield from query(RECORD_PASS)


def record_watcher_seen(holder: str) -> Transaction[None]:
    """Record that a watcher runs, for the alerts `no_watcher` and `passes_stand`."""
    yield from query(RECORD_WATCHER_SEEN, holder=holder, hold_s=HOLD_S)


def record_watcher_left(holder: str) -> Transaction[None]:
    """Record that this watcher was shut down, unless another one has taken over meanwhile.

    The alert `no_watcher` then waits longer, because a new watcher may be about to start.
    """
    yield from query(RECORD_WATCHER_LEFT, holder=holder)


def release(holder: str, name: str = "pass") -> Transaction[None]:
    """Give the lock back if `holder` has it, so that another process can take it at once."""
    yield from query_one(RELEASE, name=name, holder=holder)


@contextmanager
def pass_lock(holder: str, wait_s: float = 0) -> Iterator[bool]:
    """Hold the lock within the block. Yield False, without it, if others held it for `wait_s`."""
    until = time.monotonic() + wait_s
    while not (held := execute_autocommit(acquire(holder))) and time.monotonic() < until:
        time.sleep(0.05)  # no notification is sent when a lock expires
    try:
        yield held
    finally:
        if held:
            execute_autocommit(release(holder))
