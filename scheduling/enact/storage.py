"""Sample the size of the database, record its free space, and define the causes of storage alerts.

`alerts.py` opens and closes the alerts.
"""

from __future__ import annotations

from scheduling.db.disk_space import DiskSpace
from scheduling.db.statements import TABLE_SIZES, Statement
from scheduling.db.transaction import Transaction, query

KEEP_SAMPLES_DAYS = 32
#: While a session holds a snapshot, each commit reads every version of its run since then
#: (measured: docs/retention.md). A dump of a database within its bounds takes less than this time.
SNAPSHOT_LIMIT_S = 600.0
#: Alert if the disk would be full within this time, at the growth of the last week.
FULL_WITHIN_DAYS = 14.0
#: Growth is computed from samples at least this far apart.
GROWTH_OVER_S = 6 * 3600.0

SAMPLE = Statement(
    "SAMPLE",
    f"""
WITH sizes AS ({TABLE_SIZES}), old AS (
    DELETE FROM scheduling_storagesample
    WHERE at < clock_timestamp() - make_interval(days => %(keep_days)s)
)
INSERT INTO scheduling_storagesample (at, database_bytes, wal_bytes, disk_free_bytes, tables)
SELECT clock_timestamp(), pg_database_size(current_database()),
       pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), %(disk_free)s::bigint,
       (SELECT jsonb_object_agg(name, bytes) FROM sizes)
""",
)

#: Four causes, with the columns of `wanted` in alerts.py.
CAUSES = """
    SELECT 'snapshot_held', 'database', NULL::bigint, NULL::bigint,
           'pid ' || s.pid || ' (' || coalesce(nullif(s.application_name, ''), 'no name')
               || ', user ' || coalesce(s.usename, '?') || ') has held a snapshot since '
               || to_char(s.xact_start AT TIME ZONE 'UTC', 'HH24:MI:SS" UTC"') || ', limit '
               || %(snapshot_limit_s)s::float || ' s: nothing is vacuumed and commits get slower;'
               || ' end it with pg_terminate_backend(' || s.pid || ') if it is not a dump',
           true
    FROM (SELECT * FROM pg_stat_activity a
          -- A snapshot of another database keeps nothing of this one, and the snapshot of this
          -- session ends with this statement.
          WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
            AND a.backend_xmin IS NOT NULL AND a.backend_type = 'client backend'
            AND a.xact_start < clock_timestamp() - make_interval(secs => %(snapshot_limit_s)s)
          ORDER BY a.xact_start LIMIT 1) s
  UNION ALL
    SELECT 'partition_missing', 'database', NULL, NULL,
           'records are stored in ' || d.name || ', since no partition was attached for them:'
               || ' another session may hold the table; run manage.py archive_records',
           true
    -- Old rows may stay in a default partition: orders that were open when their own partition was
    -- archived.
    FROM (SELECT 'portfolios_order_default' AS name
          WHERE EXISTS (SELECT FROM ONLY portfolios_order_default
                        WHERE committed_at > clock_timestamp() - interval '1 day')
          UNION ALL SELECT 'portfolios_fill_default'
          WHERE EXISTS (SELECT FROM ONLY portfolios_fill_default
                        WHERE at > clock_timestamp() - interval '1 day')
          UNION ALL SELECT 'portfolios_equitypoint_default'
          WHERE EXISTS (SELECT FROM ONLY portfolios_equitypoint_default
                        WHERE at > clock_timestamp() - interval '1 day') LIMIT 1) d
  UNION ALL
    SELECT 'archived_unverified', 'portfolio:' || p.id, p.id, NULL,
           'its orders and fills up to seq ' || k.seq || ' were archived, and it is verified up to'
               || ' seq ' || a.seq || ' only: look at its verification; the archive has every row',
           true
    FROM (SELECT portfolio_id, max(to_seq) AS seq FROM portfolios_archivedrange
          WHERE kind IN ('portfolios_order', 'portfolios_fill') GROUP BY portfolio_id) k
    JOIN portfolios_portfolio p ON p.id = k.portfolio_id AND p.archived_at IS NULL
    CROSS JOIN LATERAL (SELECT coalesce(max(x.seq), p.first_seq - 1) AS seq
                        FROM scheduling_verificationanchor x WHERE x.portfolio_id = p.id) a
    WHERE a.seq < k.seq
  UNION ALL
    SELECT 'table_growth', 'database', NULL, NULL,
           'the database grows by ' || pg_size_pretty(g.a_day::bigint) || ' a day, most of it '
               || g.largest || ', and its disk has ' || pg_size_pretty(g.free) || ' free: full in '
               || round((g.free / g.a_day)::numeric, 1) || ' days; keep records for a shorter time'
               || ' or give it more room',
           true
    FROM (
        SELECT n.disk_free_bytes AS free,
               (n.database_bytes - o.database_bytes)
                   / (extract(epoch FROM n.at - o.at)::float / 86400) AS a_day,
               (SELECT t.key FROM jsonb_each_text(n.tables) t
                ORDER BY t.value::bigint - coalesce((o.tables->>t.key)::bigint, 0) DESC LIMIT 1)
                   AS largest
        FROM (SELECT * FROM scheduling_storagesample ORDER BY at DESC LIMIT 1) n
        CROSS JOIN LATERAL (SELECT * FROM scheduling_storagesample x
                            WHERE x.at > n.at - interval '7 days' ORDER BY x.at LIMIT 1) o
        WHERE n.disk_free_bytes IS NOT NULL AND n.database_bytes > o.database_bytes
          AND n.at >= o.at + make_interval(secs => %(growth_over_s)s)
    ) g WHERE g.free < g.a_day * %(full_within_days)s
"""

LIMITS = {  #: parameters of CAUSES
    "snapshot_limit_s": SNAPSHOT_LIMIT_S,
    "full_within_days": FULL_WITHIN_DAYS,
    "growth_over_s": GROWTH_OVER_S,
}


def sample_storage(disk_free: int | None) -> Transaction[None]:
    """Store the sizes of tables, WAL and disk as they are now, and delete samples of a month ago.

    `disk_free`: free bytes on the database's disk; None: not known.
    """
    yield from query(SAMPLE, disk_free=disk_free, keep_days=KEEP_SAMPLES_DAYS)


#: Seconds for which the report of a full disk is valid. It is repeated every two seconds.
REPORT_VALID_S = 20.0
MAX_REASON = 80  #: characters that the column `holder` takes

#: The row exists from a time when there was room: on a full disk it can be updated within its page,
#: while no page can be added. Concurrent writer: another gateway; the last one wins.
REPORT_DISK = Statement(
    "REPORT_DISK",
    """
INSERT INTO scheduling_passlock AS l (name, holder, until)
VALUES ('storage', %(reason)s::text, clock_timestamp() + make_interval(secs => %(valid_s)s))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
""",
)

#: Insert and delete a row while there is room: afterwards the table of alerts and its indexes have
#: a page with space for the alert of a full disk.
RESERVE_ALERT_SPACE = Statement(
    "RESERVE_ALERT_SPACE",
    """
DO $$ BEGIN
    INSERT INTO scheduling_alert (kind, key, reason, opened_at, times)
    VALUES ('disk_full', 'reserve', '', clock_timestamp(), 1)
    ON CONFLICT (kind, key) WHERE closed_at IS NULL DO NOTHING;
    DELETE FROM scheduling_alert WHERE kind = 'disk_full' AND key = 'reserve';
END $$
""",
)


def record_disk_space(space: DiskSpace) -> Transaction[None]:
    """Store `space.reason`, why the disk is full or nearly full: the alert is made from it.

    While there is a reason, each call writes it anew, since it expires; once there is none, one
    call clears it. The first call of a process also reserves space for the row of that alert.
    """
    reason = space.reason
    if space.recorded_reason is None:
        yield from query(RESERVE_ALERT_SPACE)
    if reason or reason != space.recorded_reason:
        yield from query(REPORT_DISK, reason=reason[:MAX_REASON], valid_s=REPORT_VALID_S)
        space.recorded_reason = reason
