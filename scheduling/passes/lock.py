"""The pass lock: one pass at a time, and a lock that ends.

An advisory lock held by a frozen process would block every pass for ever. This one is a row with
an end; overlap after the end is harmless, since every enact is compare-and-set.
"""

from __future__ import annotations

from scheduling.enact.recipe import Recipe, one

HOLD_S = 5.0

TAKE = """
INSERT INTO scheduling_passlock AS l (name, holder, until)
VALUES ('pass', %(holder)s::text, clock_timestamp() + make_interval(secs => %(hold_s)s))
-- The rival that may win: a pass that holds it and has not outlived its time.
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE l.holder = excluded.holder OR l.until < clock_timestamp()
RETURNING holder
"""

DROP = """
UPDATE scheduling_passlock SET until = clock_timestamp()
WHERE name = 'pass' AND holder = %(holder)s::text
"""


def take(holder: str) -> Recipe[bool]:
    """Take or renew the lock for HOLD_S. False: another pass holds it."""
    return (yield from one(TAKE, holder=holder, hold_s=HOLD_S)) is not None


def drop(holder: str) -> Recipe[None]:
    """Let the next pass in at once."""
    yield from one(DROP, holder=holder)
