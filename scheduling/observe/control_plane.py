"""The processes of the control plane as their rows show them: gateways, passes, the watcher."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query


class GatewayRow(NamedTuple):
    """A gateway: how long ago it pulsed, and since when it has done so."""

    host: str
    pid: int | None
    pulse_age_s: float
    serving_s: float  #: how long it has pulsed without a gap
    commit_age_s: float | None  #: since a commit passed through it; None: none has since its start


#: Gateways that pulsed within the last hour, without those that stopped in order.
GATEWAYS = Statement(
    "GATEWAYS",
    """
SELECT host, pid, extract(epoch FROM clock_timestamp() - pulsed_at)::float AS pulse_age_s,
       extract(epoch FROM pulsed_at - serving_since)::float AS serving_s,
       extract(epoch FROM clock_timestamp() - commits_passed_at)::float AS commit_age_s
FROM scheduling_gateway
WHERE left_at IS NULL AND pulsed_at > clock_timestamp() - interval '1 hour'
ORDER BY host, pid LIMIT 1000
""",
    row=GatewayRow,
)


class PassRow(NamedTuple):
    name: str  #: pass or watcher
    age_s: float | None


#: `pass`: seconds since the last whole pass ended. `watcher`: seconds since the next check by a
#: watcher was due (`until`, which each check moves on); 0: it is not due yet.
PASSES = Statement(
    "PASSES",
    """
SELECT name, CASE name
    WHEN 'pass' THEN extract(epoch FROM clock_timestamp() - failover_ran_at)::float
    ELSE greatest(extract(epoch FROM clock_timestamp() - until)::float, 0) END AS age_s
FROM scheduling_passlock WHERE name IN ('pass', 'watcher') ORDER BY name
""",
    row=PassRow,
)


#: Workers retry a message every 10 s: one that has been due for longer has no worker.
MESSAGES_LIMIT_S = 20.0


class UnattendedRow(NamedTuple):
    """Work that watcher and worker leave undone."""

    watcher_is_away: bool
    messages_wait: bool  #: alert messages have been due for over MESSAGES_LIMIT_S


#: Whether the watcher is overdue, and whether messages wait that a worker would have sent.
UNATTENDED = Statement(
    "UNATTENDED",
    """
SELECT EXISTS (SELECT FROM scheduling_passlock
               WHERE name = 'watcher' AND until < clock_timestamp()) AS watcher_is_away,
       EXISTS (SELECT FROM scheduling_alertmessage
               WHERE state = 'waiting'
               AND next_try_at < clock_timestamp() - make_interval(secs => %(limit_s)s))
           AS messages_wait
""",
    row=UnattendedRow,
)


class ControlPlane(NamedTuple):
    """Gateways that pulse or should, and how long ago the passes ran."""

    gateways: list[GatewayRow]
    passes: dict[str, float]  #: `pass` and `watcher` → seconds, see PASSES


def read_control_plane() -> Transaction[ControlPlane]:
    """Return gateways and passes. Two statements, neither of which reads the fleet."""
    gateways = yield from query(GATEWAYS)
    passes = yield from query(PASSES)
    return ControlPlane(gateways, {row.name: row.age_s for row in passes if row.age_s is not None})


def read_unattended() -> Transaction[UnattendedRow]:
    """Return whether the watcher is overdue, and whether alert messages wait for a worker."""
    (row,) = yield from query(UNATTENDED, limit_s=MESSAGES_LIMIT_S)
    return row
