"""Gateways: each web process records that nodes can reach it, and since when.

The silence of a node proves nothing while no gateway could hear it.
"""

from __future__ import annotations

from uuid import UUID

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query
from scheduling.timing import Timing

#: The web process records that it could have received heartbeats, whether or not any came, and for
#: how long its commits have been blocked. The latter counts only while no commit of any process got
#: through for the length of a gap: one blocked process must not suspend the deadlines of all.
RECORD_GATEWAY = Statement(
    "RECORD_GATEWAY",
    """
WITH input AS (
    SELECT CASE WHEN NOT EXISTS (
        SELECT FROM scheduling_gateway p
        WHERE p.commits_passed_at BETWEEN clock_timestamp() - make_interval(secs => %(gap_s)s)
                                      AND clock_timestamp()
    ) THEN %(blocked_s)s::float8 END AS blocked_s
)
INSERT INTO scheduling_gateway AS g (id, host, pid, serving_since, pulsed_at, commits_stand_since,
                                     commits_stood_at, commits_passed_at)
SELECT %(gateway)s, %(host)s, %(pid)s, clock_timestamp(), clock_timestamp(),
       clock_timestamp() - make_interval(secs => blocked_s),
       CASE WHEN blocked_s IS NOT NULL THEN clock_timestamp() END,
       clock_timestamp() - make_interval(secs => %(passed_s)s)
FROM input
-- No concurrent writer but CLAMP_GATEWAY: each process has a row of its own.
ON CONFLICT (id) DO UPDATE SET pulsed_at = excluded.pulsed_at, left_at = NULL,
    -- A clock that was set, in either direction, is a gap too.
    serving_since = CASE
        WHEN %(overloaded)s OR excluded.pulsed_at - g.pulsed_at
            NOT BETWEEN interval '-1 s' AND make_interval(secs => %(gap_s)s)
        THEN excluded.pulsed_at ELSE g.serving_since END,
    commits_stood_at = coalesce(excluded.commits_stood_at, g.commits_stood_at),
    commits_stand_since = CASE
        WHEN excluded.commits_stood_at IS NULL THEN g.commits_stand_since
        WHEN excluded.commits_stood_at - g.commits_stood_at
            BETWEEN interval '-1 s' AND make_interval(secs => %(gap_s)s)
        THEN least(g.commits_stand_since, excluded.commits_stand_since)
        ELSE excluded.commits_stand_since END,
    commits_passed_at = coalesce(excluded.commits_passed_at, g.commits_passed_at)
""",
)


def record_gateway_alive(
    timing: Timing,
    gateway: UUID,
    *,
    host: str = "",
    pid: int | None = None,
    overloaded: bool = False,
    blocked_s: float | None = None,
    passed_s: float | None = None,
) -> Transaction[None]:
    """Record that nodes can reach this gateway now.

    More than `timing.pulse_gap_s` since the last call is a gap: `serving_since` becomes now. The
    same happens after a clock was set back, since earlier times then say nothing about durations,
    and if the gateway is `overloaded`: it may be why nodes were silent since the last call.
    `blocked_s`: seconds for which commits have been blocked here; None: they get through.
    `passed_s`: seconds since a commit last got through here; None: none ever did.
    """
    yield from query(
        RECORD_GATEWAY,
        gateway=gateway,
        host=host,
        pid=pid,
        gap_s=timing.pulse_gap_s,
        overloaded=overloaded,
        blocked_s=blocked_s,
        passed_s=passed_s,
    )


GATEWAY_LEFT = Statement(
    "GATEWAY_LEFT",
    "UPDATE scheduling_gateway SET left_at = clock_timestamp() WHERE id = %(gateway)s",
)


def record_gateway_left(gateway: UUID) -> Transaction[None]:
    """Record that this gateway stops in order, so that it delays the loss of no node."""
    yield from query(GATEWAY_LEFT, gateway=gateway)
