"""Detect that the database was promoted or restored, and that it lacks acknowledged commits.

There are two signs. The server begins a new timeline at a promotion, and if commits did not wait
for a synchronous standby, the last ones may be missing. And daemons report commits that were
acknowledged to them and are missing: their *claims*. Either sign opens the alert `commits_vanished`
and holds failover, since an epoch granted in the lost history could be granted again. A loss is
*settled*, and counts no more, once the epoch floor is raised or an operator releases failover.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.decide.reasons import count
from scheduling.enact.audit_log import audit
from scheduling.enact.notify import notify_watchers
from scheduling.enact.storm import HOLD_FAILOVER
from scheduling.wire.messages import AcknowledgedCommits

#: In `scheduling_storm.held_by` while failover is held for this.
HOLDER = "database"
LARGEST = 2**63 - 1  #: of a bigint
MAX_CLAIMS, MAX_ORDERS = 2_000, 200  #: claims of one heartbeat, orders of one claim
#: Claims of one node that are not settled or that came within NEW_WITHIN_S: at most MAX_NEW, and
#: MAX_NEW_PER_PORTFOLIO more for each portfolio that it runs. A daemon has one claim per portfolio
#: and loss; a node that keeps inventing claims must not fill the database.
MAX_NEW, MAX_NEW_PER_PORTFOLIO, NEW_WITHIN_S = 4_000, 10, 86_400.0
#: At most so many of these may lack a record that the node owned the portfolio at that epoch.
MAX_UNVERIFIED = 200
#: At most so many claims of one node for one epoch of a portfolio are stored, ever: a daemon makes
#: another one only after another loss.
MAX_PER_EPOCH = 5
#: Orders that the alert looks up, in each pass; the alert says so if there may be more.
MAX_COUNTED = 5_000

#: PostgreSQL lets any role call these functions; a managed service may have revoked that.
MAY_READ_TIMELINE = Statement(
    "MAY_READ_TIMELINE",
    """
SELECT has_function_privilege('pg_control_system()', 'EXECUTE')
   AND has_function_privilege('pg_walfile_name(pg_lsn)', 'EXECUTE') AS may
""",
)

#: The timeline is read from the name of the present log file: the last checkpoint still names the
#: old timeline for minutes after a promotion.
READ_TIMELINE = Statement(
    "READ_TIMELINE",
    """
SELECT s.system_identifier::text AS system_identifier,
       ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint AS timeline,
       current_setting('synchronous_standby_names') <> '' AS synchronous,
       t.id, t.synchronous AS noted,
       -- The newest of the other timelines, if there is one.
       b.id AS before, b.timeline AS timeline_before, b.synchronous AS synchronous_before,
       b.system_identifier AS system_before
FROM pg_control_system() s
LEFT JOIN scheduling_databasetimeline t ON t.system_identifier = s.system_identifier::text
    AND t.timeline = ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint
LEFT JOIN LATERAL (
    SELECT * FROM scheduling_databasetimeline o WHERE o.id IS DISTINCT FROM t.id
    ORDER BY o.id DESC LIMIT 1
) b ON true
""",
)

NOTE_SYNCHRONOUS = Statement(
    "NOTE_SYNCHRONOUS",
    """
UPDATE scheduling_databasetimeline SET synchronous = %(synchronous)s
WHERE id = %(id)s AND synchronous <> %(synchronous)s
""",
)

BEGIN = Statement(
    "BEGIN",
    """
INSERT INTO scheduling_databasetimeline
    (system_identifier, timeline, since, synchronous, settled_at)
VALUES (%(system_identifier)s, %(timeline)s, clock_timestamp(), %(synchronous)s,
        CASE WHEN %(settled)s THEN clock_timestamp() END)
-- Concurrent writer: another gateway that detected the same.
ON CONFLICT (system_identifier, timeline) DO NOTHING
RETURNING id
""",
)


def note_timeline(*, settled: bool = False) -> Transaction[tuple[str, int]]:
    """Record the present timeline of the database; return (system identifier, timeline).

    A new timeline that may lack commits holds failover, but not with `settled`: then the caller
    raises the epoch floor. Return ("", 0) if this database role may not read the timeline: then
    only daemons detect lost commits.
    """
    allowed = yield from query_one(MAY_READ_TIMELINE)
    if allowed is None or not allowed.may:
        return ("", 0)
    found = yield from query_one(READ_TIMELINE)
    assert found is not None
    key = (found.system_identifier, found.timeline)
    if found.id is not None:
        if found.noted != found.synchronous:
            yield from query(NOTE_SYNCHRONOUS, id=found.id, synchronous=found.synchronous)
        return key
    # Before the first known timeline nothing was acknowledged, as far as this installation knows.
    is_safe = settled or found.before is None or found.synchronous_before
    begun = yield from query_one(
        BEGIN,
        system_identifier=found.system_identifier,
        timeline=found.timeline,
        synchronous=found.synchronous,
        settled=is_safe,
    )
    if begun is None or found.before is None:
        return key
    why = _change_sentence(found)
    yield from audit("database_changed", actor=HOLDER, reason=why, settled=is_safe)
    if not is_safe:
        yield from _hold(why)
    return key


def _change_sentence(found: Row) -> str:
    """Return how the timeline in a row of READ_TIMELINE differs from the one before."""
    same = found.system_before == found.system_identifier
    before = f"timeline {found.timeline_before}" + ("" if same else " of another server")
    standby = "a" if found.synchronous_before else "no"
    return (
        f"the database goes on as timeline {found.timeline} after {before}, which had {standby} "
        "synchronous standby"
    )


#: Concurrent writer: an operator who holds failover. Their hold stays: SETTLE ends the automatic
#: hold, and must not end one that was set for another reason.
HOLD = Statement(
    "HOLD",
    f"""
{HOLD_FAILOVER} WHERE s.held_at IS NULL OR s.held_by IN ('', %(actor)s::text)
RETURNING held_at
""",
)


def _hold(why: str) -> Transaction[None]:
    """Hold failover until released, even if a storm holds it. An operator's hold stays as it is."""
    held = yield from query_one(HOLD, actor=HOLDER, reason=why[:200])
    if held is not None:
        yield from audit("storm_held", actor=HOLDER, reason=why)
    yield from notify_watchers()


#: A claim by the owner of its epoch is verified. If no tenure of the epoch exists (it is above the
#: present epoch, or between the epoch before the floor was raised and the floor), the grant may
#: have vanished too: such claims are stored as unverified, up to a lower limit. A tenure of another
#: node refutes a claim, unless the database is known to have changed: then the epoch may have been
#: granted again.
CLAIM = Statement(
    "CLAIM",
    """
WITH claimed AS MATERIALIZED (
    SELECT * FROM unnest(%(portfolios)s::bigint[], %(epochs)s::bigint[], %(seqs)s::bigint[],
                         %(found_epochs)s::bigint[], %(found_seqs)s::bigint[], %(orders)s::jsonb[])
        AS c(portfolio, epoch, seq, found_epoch, found_seq, orders)
), recent AS MATERIALIZED (
    SELECT count(*) AS claims, count(*) FILTER (WHERE o.unverified) AS unverified
    FROM scheduling_vanishedcommits o WHERE o.node_id = %(node)s
    AND (o.settled_at IS NULL
         OR o.seen_at > clock_timestamp() - make_interval(secs => %(new_within_s)s))
), judged AS MATERIALIZED (
    -- Epoch and seq of a portfolio never decrease, so an acknowledged commit cannot be ahead.
    SELECT c.portfolio, c.epoch, c.seq, c.orders, r.portfolio_id IS NOT NULL AS exists,
           CASE WHEN c.found_seq >= 0 THEN c.found_epoch ELSE r.epoch END AS found_epoch,
           CASE WHEN c.found_seq >= 0 THEN c.found_seq ELSE r.last_seq END AS found_seq,
           f.at AS floor_at, t.node_id IS DISTINCT FROM %(node)s AS unverified,
           row_number() OVER (PARTITION BY c.portfolio, c.epoch ORDER BY c.seq)
           + (SELECT count(*) FROM scheduling_vanishedcommits o
              WHERE (o.portfolio_number, o.epoch, o.node_id)
                    = (c.portfolio, c.epoch, %(node)s)) AS nth
    FROM claimed c LEFT JOIN scheduling_run r ON r.portfolio_id = c.portfolio
    LEFT JOIN scheduling_tenure t ON t.portfolio_id = c.portfolio AND t.epoch = c.epoch
    LEFT JOIN LATERAL (
        SELECT max(e.at) AS at, bool_or((e.data->>'epoch_before')::bigint < c.epoch) AS skipped
        FROM scheduling_event e
        WHERE e.portfolio_id = c.portfolio AND e.kind = 'ended' AND e.data->>'cause' = 'floor'
          AND (e.data->>'epoch')::bigint >= c.epoch
    ) f ON true
    WHERE (c.found_seq >= 0 OR r.portfolio_id IS NULL OR c.epoch > r.epoch OR c.seq > r.last_seq)
      AND (t.node_id = %(node)s OR r.portfolio_id IS NULL OR c.epoch > r.epoch
           OR f.skipped
           OR EXISTS (SELECT FROM scheduling_databasetimeline WHERE settled_at IS NULL))
      -- Reported before: the answer was lost.
      AND NOT EXISTS (SELECT FROM scheduling_vanishedcommits o
                      WHERE (o.portfolio_number, o.epoch, o.seq) = (c.portfolio, c.epoch, c.seq))
), accepted AS MATERIALIZED (
    (SELECT * FROM judged WHERE NOT unverified AND nth <= %(most_per_epoch)s
     LIMIT greatest(0, %(most_new)s - (SELECT claims FROM recent) + %(most_per_portfolio)s
                       * (SELECT count(*) FROM scheduling_run WHERE node_id = %(node)s)))
    UNION ALL
    (SELECT * FROM judged WHERE unverified AND nth <= %(most_per_epoch)s
     LIMIT greatest(0, %(most_unverified)s - (SELECT unverified FROM recent)))
), stored AS (
    INSERT INTO scheduling_vanishedcommits AS v (portfolio_number, node_id, epoch, seq, found_epoch,
                                                 found_seq, orders, seen_at, settled_at, unverified)
    SELECT k.portfolio, %(node)s, k.epoch, k.seq, k.found_epoch, k.found_seq,
           (SELECT coalesce(jsonb_agg(o), '[]') FROM jsonb_array_elements(k.orders) o
            WHERE (o->>0)::bigint > coalesce(k.found_seq, -1)),
           clock_timestamp(),
           -- From before the epoch floor: this is the loss that the floor was raised for, however
           -- late the report. A grant or creation above the floor that vanished is another loss.
           CASE WHEN k.exists THEN k.floor_at ELSE (
               SELECT max(e.at) FROM scheduling_event e WHERE e.kind = 'epoch_floor_raised'
                 AND (e.data->>'last_portfolio')::bigint >= k.portfolio)
           END,
           k.unverified
    FROM accepted k
    -- Concurrent writer: another process with the same report.
    ON CONFLICT (portfolio_number, epoch, seq) DO NOTHING
    RETURNING v.portfolio_number, v.settled_at IS NULL AS open,
              greatest(v.seq - coalesce(v.found_seq, v.seq), 0) AS events,
              jsonb_array_length(v.orders) AS orders, v.unverified
)
SELECT s.*, d.dropped
FROM (SELECT (SELECT count(*) FROM judged) - (SELECT count(*) FROM accepted) AS dropped) d
LEFT JOIN stored s ON true
""",
)


#: Return a row if claims are believed. One node alone could be wrong, or hostile: it is believed if
#: no other node is alive, or if the database itself has changed.
IS_BELIEVED = Statement(
    "IS_BELIEVED",
    """
SELECT true AS believed
WHERE (SELECT count(DISTINCT node_id) FROM scheduling_vanishedcommits WHERE settled_at IS NULL) > 1
   OR (SELECT count(*) FROM scheduling_node WHERE status = 'alive') < 2
   OR EXISTS (SELECT FROM scheduling_databasetimeline WHERE settled_at IS NULL)
""",
)


class ClaimCounts(NamedTuple):
    """How many claims of one report were stored, and how many the limits of its node kept out."""

    stored: int
    dropped: int


def note_acknowledged(
    node: int, node_name: str, claims: Sequence[AcknowledgedCommits]
) -> Transaction[ClaimCounts]:
    """Store those claims of a node whose acknowledged commits this database lacks.

    Hold failover if they are believed (IS_BELIEVED). Return how many were stored and dropped.
    """
    valid = [c for c in claims[:MAX_CLAIMS] if _is_in_range(c)]
    if not valid:
        return ClaimCounts(0, 0)
    rows = yield from query(
        CLAIM,
        node=node,
        portfolios=[c.portfolio for c in valid],
        epochs=[c.epoch for c in valid],
        seqs=[c.seq for c in valid],
        found_epochs=[c.found_epoch for c in valid],
        found_seqs=[c.found_seq for c in valid],
        orders=[Jsonb(c.orders[-MAX_ORDERS:]) for c in valid],
        most_new=MAX_NEW,
        most_per_portfolio=MAX_NEW_PER_PORTFOLIO,
        most_unverified=MAX_UNVERIFIED,
        most_per_epoch=MAX_PER_EPOCH,
        new_within_s=NEW_WITHIN_S,
    )
    # If no claim was stored, there is one row, which has only the count of dropped claims.
    counts = ClaimCounts(sum(row.portfolio_number is not None for row in rows), rows[0].dropped)
    if not counts.stored:
        return counts
    portfolios = sorted({row.portfolio_number for row in rows})
    why = (
        f"{node_name} remembers acknowledged commits that the database does not have, of "
        f"{count(len(portfolios), 'portfolio')}"
    )
    yield from audit(
        "commits_vanished",
        node=node,
        actor=node_name,
        reason=why,
        portfolios=portfolios,
        events=sum(row.events for row in rows),
        orders=sum(row.orders for row in rows),
        unverified=sum(row.unverified for row in rows),
    )
    if any(row.open for row in rows) and (yield from query(IS_BELIEVED)):
        yield from _hold(why)
    return counts


def _is_in_range(claim: AcknowledgedCommits) -> bool:
    """Return whether the numbers of the claim fit their columns."""
    order_numbers = [number for seq_and_index in claim.orders for number in seq_and_index]
    numbers = [claim.portfolio, claim.epoch, claim.seq, *order_numbers]
    found = (claim.found_epoch, claim.found_seq)  # -1: not known
    return all(0 <= n <= LARGEST for n in numbers) and all(-1 <= n <= LARGEST for n in found)


#: The cause of an alert, with the columns of `wanted` in alerts.py. Orders placed again since under
#: the same ids are not missing. Every pass evaluates this, so its work is bounded: a node that
#: claims 800,000 orders must not delay the failover of all portfolios.
CAUSE = f"""
    SELECT 'commits_vanished', 'fleet', NULL, NULL,
           CASE WHEN lost.portfolios > 0
               THEN 'the database lacks acknowledged commits (portfolios: ' || lost.portfolios
                   || ', events: ' || lost.events || ', placed orders: ' || missing.orders
                   || CASE WHEN missing.looked_up >= {MAX_COUNTED} THEN ' or more)' ELSE ')' END
                   || CASE WHEN lost.unverified > 0
                      THEN '; unverified portfolios: ' || lost.unverified ELSE '' END
               ELSE 'the database went on as timeline ' || changed.timeline
                   || ' without a synchronous standby, so acknowledged commits may be missing; '
                   || 'no daemon has reported any' END
               || '; run manage.py raise_epoch_floor',
           true
    FROM (
        SELECT count(DISTINCT v.portfolio_number) AS portfolios,
               count(DISTINCT v.portfolio_number) FILTER (WHERE v.unverified) AS unverified,
               -- No cast: a sum of numbers from daemons may exceed a bigint.
               sum(greatest(v.seq - coalesce(v.found_seq, v.seq), 0)) AS events
        FROM scheduling_vanishedcommits v WHERE v.settled_at IS NULL
    ) lost
    CROSS JOIN (
        SELECT count(*) AS looked_up, count(*) FILTER (WHERE NOT EXISTS (
            SELECT FROM portfolios_order p
            WHERE p.portfolio_id = told.portfolio AND p.seq = told.seq
              AND p.index = told.index AND p.status IN ('open', 'filled'))) AS orders
        FROM (
            SELECT v.portfolio_number AS portfolio, (o->>0)::bigint AS seq, (o->>1)::bigint AS index
            FROM scheduling_vanishedcommits v CROSS JOIN LATERAL jsonb_array_elements(v.orders) o
            WHERE v.settled_at IS NULL ORDER BY v.id LIMIT {MAX_COUNTED}
        ) told
    ) missing
    CROSS JOIN (
        SELECT max(t.timeline) AS timeline FROM scheduling_databasetimeline t
        WHERE t.settled_at IS NULL
    ) changed
    WHERE lost.portfolios > 0 OR changed.timeline IS NOT NULL
"""

SETTLE = Statement(
    "SETTLE",
    """
WITH timelines AS (
    UPDATE scheduling_databasetimeline SET settled_at = clock_timestamp()
    WHERE settled_at IS NULL RETURNING id
), commits AS (
    UPDATE scheduling_vanishedcommits SET settled_at = clock_timestamp()
    WHERE settled_at IS NULL RETURNING id
), released AS (
    UPDATE scheduling_storm SET held_at = NULL, until = NULL, held_by = '', reason = '',
        ended_at = clock_timestamp()
    WHERE held_by = %(holder)s RETURNING id
)
SELECT (SELECT count(*) FROM timelines) + (SELECT count(*) FROM commits)
     + (SELECT count(*) FROM released) AS settled
""",
)


def settle() -> Transaction[None]:
    """Mark all vanished commits and new timelines as settled; end the hold on failover for them."""
    yield from query(SETTLE, holder=HOLDER)


class UnsettledRow(NamedTuple):
    """Which losses still count, for an installation that raises the epoch floor automatically."""

    vanished: bool  #: commits are missing, and that has been known for `wait_s`
    changed: bool  #: the database is on another timeline
    quiet: bool  #: and has been for `quiet_s`, within which every living daemon reports


UNSETTLED = Statement(
    "UNSETTLED",
    """
SELECT EXISTS (SELECT FROM scheduling_vanishedcommits WHERE settled_at IS NULL
               AND seen_at < clock_timestamp() - make_interval(secs => %(wait_s)s)) AS vanished,
       EXISTS (SELECT FROM scheduling_databasetimeline WHERE settled_at IS NULL) AS changed,
       EXISTS (SELECT FROM scheduling_databasetimeline WHERE settled_at IS NULL
               AND since < clock_timestamp() - make_interval(secs => %(quiet_s)s)) AS quiet
""",
    row=UnsettledRow,
)


def read_unsettled(wait_s: float, quiet_s: float) -> Transaction[UnsettledRow]:
    """Return which losses still count; the fields say what `wait_s` and `quiet_s` mean."""
    row = yield from query_one(UNSETTLED, wait_s=wait_s, quiet_s=quiet_s)
    assert row is not None
    return row
