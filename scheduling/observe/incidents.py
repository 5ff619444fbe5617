"""Incidents: the loss of one node, and what became of each portfolio that it owned.

An incident is the line `node_lost` of the audit log, by whose number a page is linked. Everything
else is computed from tenures, handoffs and orders, so that no code can forget to record it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scheduling.db.transaction import django_cursor
from scheduling.errors import NotFound
from scheduling.models import Event

MAX_PORTFOLIOS = 2_000  #: shown of one incident
#: Orders of each portfolio after its outage among which suppressed ones are counted.
MAX_DECISIONS = 5_000


@dataclass(frozen=True, slots=True)
class IncidentView:
    """The loss of one node."""

    id: int
    node: str
    at: datetime
    reason: str
    why: Mapping[str, Any] | None  #: the data of `reason`
    back_at: datetime | None  #: when the node was alive again
    portfolios: int  #: that it owned
    placed: int  #: of them, those that committed under a new epoch
    longest_ms: float | None  #: the longest time without an owner


@dataclass(frozen=True, slots=True)
class OutageView:
    """One portfolio of a lost node."""

    portfolio: str
    deleted: bool
    from_epoch: int
    last_seq: int | None  #: of its last commit on the lost node; None: the node still owns it
    last_commit_at: datetime | None
    to_epoch: int | None  #: of its next owner; None: none yet
    target: str | None
    handoff: int | None
    first_commit_at: datetime | None
    without_owner_ms: float | None  #: from its last commit to its next one
    so_far_ms: float | None  #: from its last commit to now, while there is no next one
    suppressed: int  #: orders decided on events of the outage
    phase: str
    reason: str  #: why it has no owner now
    why: Mapping[str, Any] | None
    verification: str | None  #: the newest one over the change of owner: identical, different …
    verification_id: int | None


_INCIDENT = """
    SELECT e.id, e.at, e.node_id, n.name AS node, e.reason, e.data->'why' AS why
    FROM scheduling_event e JOIN scheduling_node n ON n.id = e.node_id
    WHERE e.kind = 'node_lost'
"""
#: The tenures of a lost node that had not ended, each with the one after it: the first that
#: committed, since a start may fail.
_OWNED = """
    FROM scheduling_tenure t
    LEFT JOIN LATERAL (
        SELECT x.* FROM scheduling_tenure x
        WHERE x.portfolio_id = t.portfolio_id AND x.epoch > t.epoch
        ORDER BY x.first_commit_at IS NULL, x.epoch LIMIT 1
    ) after ON true
    WHERE t.node_id = i.node_id AND t.started_at <= i.at
      AND (t.ended_at IS NULL OR t.ended_at >= i.at)
"""
#: The newest incidents: all, one, those of one node, or those before a number.
LIST = f"""
WITH i AS MATERIALIZED (
    {_INCIDENT}
      AND (%(id)s::bigint IS NULL OR e.id = %(id)s)
      AND (%(before)s::bigint IS NULL OR e.id < %(before)s)
      AND (%(node)s::text = '' OR n.name = %(node)s)
    ORDER BY e.id DESC LIMIT %(most)s
)
SELECT i.id, i.node, i.at, i.reason, i.why,
       (SELECT min(b.at) FROM scheduling_event b WHERE b.node_id = i.node_id AND b.id > i.id
        AND b.kind IN ('node_alive', 'node_registered')) AS back_at,
       o.portfolios, o.placed, o.longest_ms
FROM i CROSS JOIN LATERAL (
    SELECT count(*)::int AS portfolios, count(after.first_commit_at)::int AS placed,
           max(after.pause_ms) AS longest_ms
    {_OWNED}
) o
ORDER BY i.id DESC
"""
#: The portfolios of one incident: how long each had no owner, and what became of it since.
OUTAGES = f"""
WITH i AS MATERIALIZED ({_INCIDENT} AND e.id = %(id)s), o AS MATERIALIZED (
    SELECT owned.* FROM i CROSS JOIN LATERAL (
        SELECT t.portfolio_id, t.epoch AS from_epoch, t.to_seq AS last_seq,
               after.epoch AS to_epoch, after.node_id AS target_id, after.handoff_id AS handoff,
               after.first_commit_at, after.pause_ms AS without_owner_ms
        {_OWNED}
    ) owned
)
SELECT p.name AS portfolio, p.archived_at IS NOT NULL AS deleted, o.from_epoch, o.last_seq,
       CASE WHEN o.first_commit_at IS NULL THEN r.last_commit_at
            ELSE o.first_commit_at - make_interval(secs => o.without_owner_ms / 1000)
            END AS last_commit_at,
       o.to_epoch, target.name AS target, o.handoff, o.first_commit_at, o.without_owner_ms,
       CASE WHEN o.first_commit_at IS NULL
            THEN extract(epoch FROM clock_timestamp() - r.last_commit_at)::float8 * 1000
            END AS so_far_ms,
       coalesce(s.suppressed, 0)::int AS suppressed, r.phase, r.reason, r.why,
       v.state AS verification, v.id AS verification_id
FROM o
JOIN portfolios_portfolio p ON p.id = o.portfolio_id
JOIN scheduling_run r ON r.portfolio_id = o.portfolio_id
LEFT JOIN scheduling_node target ON target.id = o.target_id
LEFT JOIN scheduling_handoff h ON h.id = o.handoff
-- Decided on events that were released before the new owner had caught up.
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE d.status = 'suppressed' AND d.decided_at <= o.first_commit_at
        + make_interval(secs => coalesce(h.catchup_ms, 0) / 1000)) AS suppressed
    FROM (SELECT x.status, x.decided_at FROM portfolios_order x
          WHERE x.portfolio_id = o.portfolio_id AND x.seq > o.last_seq AND x.epoch = o.to_epoch
          ORDER BY x.seq LIMIT %(decisions)s) d
) s ON o.first_commit_at IS NOT NULL
LEFT JOIN LATERAL (
    SELECT y.state, y.id FROM scheduling_verification y
    WHERE y.portfolio_id = o.portfolio_id AND y.to_seq > o.last_seq
      AND y.state IN ('identical', 'different')
    ORDER BY y.id DESC LIMIT 1
) v ON true
ORDER BY p.priority DESC, p.name LIMIT %(most)s
"""


def read_incidents(
    node: str = "", before: int | None = None, most: int = 50
) -> Sequence[IncidentView]:
    """Return the `most` newest incidents, newest first. One statement.

    If given, only those of the `node`, and only those older than the incident numbered `before`.
    """
    return _read_incidents(id=None, node=node, before=before, most=most)


def read_incident(number: int) -> tuple[IncidentView, list[OutageView]]:
    """Return an incident and its portfolios, the most important first. Raise NotFound.

    Two statements.
    """
    # PostgreSQL compares ids with a bigint, and would refuse a number that is too large for one.
    found = _read_incidents(id=number, node="", before=None, most=1) if number < 2**63 else []
    if not found:
        raise NotFound("incident", str(number))
    given = {"id": number, "decisions": MAX_DECISIONS, "most": MAX_PORTFOLIOS}
    with django_cursor() as cursor:
        rows = cursor.execute(OUTAGES.encode(), given).fetchall()
    return found[0], [OutageView(**row._asdict()) for row in rows]


def newest_incident(node: str, until: datetime | None = None) -> int | None:
    """Return the number of the node's newest incident, not after `until`; None if there is none."""
    events = Event.objects.filter(kind="node_lost", node__name=node)
    if until is not None:
        events = events.filter(at__lte=until)
    return events.order_by("-pk").values_list("pk", flat=True).first()


def _read_incidents(**given: Any) -> list[IncidentView]:
    with django_cursor() as cursor:
        rows = cursor.execute(LIST.encode(), given).fetchall()
    return [IncidentView(**row._asdict()) for row in rows]
