"""Write what portfolio processes print, and delete what is too old.

Nothing else waits for these lines: they are written over a connection of their own and lock no row
of the scheduler. If they cannot be written soon, they are lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from portfolios.text import escape_unprintable
from scheduling.db.statements import ACTIVE_HANDOFF_STATES, Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.wire.messages import MAX_LOG_LINE, StreamLines

KEPT_LINES = 2_000  #: of each portfolio
KEPT_BYTES = 512 << 10  #: of each portfolio, ROW_BYTES of each line included
ROW_BYTES = 40  #: counted for each line, beside its text
#: How long after the end of a tenure or a handoff its last lines are taken: the traceback of a
#: process that died is read after its death was reported.
LATE_S = 60
MAX_AGE_MS = 600_000  #: of a line when it is written; an older one counts as this old


class WrittenRow(NamedTuple):
    lines: int


WRITE_LOG = Statement(
    "WRITE_LOG",
    f"""
WITH input AS MATERIALIZED (
    SELECT * FROM unnest(%(portfolios)s::bigint[], %(epochs)s::bigint[], %(handoffs)s::bigint[])
        WITH ORDINALITY AS i(portfolio, epoch, handoff, stream)
), owned AS MATERIALIZED (
    -- Only of processes that this incarnation runs, ran until just now, or prepares.
    SELECT i.stream, i.portfolio, coalesce(t.revision, h.to_revision) AS revision
    FROM input i
    JOIN portfolios_portfolio p ON p.id = i.portfolio AND p.archived_at IS NULL
    LEFT JOIN scheduling_tenure t ON t.portfolio_id = i.portfolio AND t.epoch = i.epoch
        AND t.node_id = %(node)s AND t.incarnation = %(incarnation)s
        AND coalesce(t.ended_at > clock_timestamp() - make_interval(secs => {LATE_S}), true)
    LEFT JOIN scheduling_handoff h ON h.id = i.handoff AND h.portfolio_id = i.portfolio
        AND h.target_node_id = %(node)s AND h.target_incarnation = %(incarnation)s
        AND (h.state IN {ACTIVE_HANDOFF_STATES}
             OR h.finished_at > clock_timestamp() - make_interval(secs => {LATE_S}))
    WHERE t.id IS NOT NULL OR h.id IS NOT NULL
), line AS MATERIALIZED (
    SELECT o.portfolio, coalesce(o.revision, 0) AS revision, l.age_ms, l.text, l.lost,
           row_number() OVER numbered AS place,
           sum(octet_length(l.text) + {ROW_BYTES}) OVER numbered AS bytes
    FROM unnest(%(streams)s::bigint[], %(ages_ms)s::bigint[], %(texts)s::text[], %(lost)s::int[])
        WITH ORDINALITY AS l(stream, age_ms, text, lost, n)
    JOIN owned o ON o.stream = l.stream
    WINDOW numbered AS (PARTITION BY o.portfolio ORDER BY l.n)
), total AS MATERIALIZED (
    SELECT portfolio, count(*) AS lines, max(bytes) AS bytes, sum(lost) AS lost
    FROM line GROUP BY portfolio
), head AS (
    -- Concurrent writer: the other node of a handoff; it waits for this row, so that numbers are in
    -- order. A repeat of the last batch writes nothing. After a batch of the other node it would
    -- show its lines twice, which costs less than the memory of every batch.
    INSERT INTO scheduling_portfoliolog AS g (portfolio_id, last_no, total_bytes, lost, batch, at)
    SELECT portfolio, lines, bytes, lost, %(batch)s, clock_timestamp() FROM total ORDER BY portfolio
    ON CONFLICT (portfolio_id) DO UPDATE SET
        last_no = g.last_no + excluded.last_no,
        total_bytes = g.total_bytes + excluded.total_bytes,
        lost = g.lost + excluded.lost, batch = excluded.batch, at = excluded.at
        WHERE g.batch <> excluded.batch
    RETURNING portfolio_id, last_no, total_bytes
), written AS (
    INSERT INTO scheduling_logline
        (portfolio_id, no, at, node, revision, text, lost, end_byte)
    SELECT l.portfolio, h.last_no - t.lines + l.place,
           clock_timestamp() - make_interval(secs => l.age_ms / 1000.0),
           %(node_name)s, l.revision, l.text, l.lost, h.total_bytes - t.bytes + l.bytes
    FROM line l JOIN total t ON t.portfolio = l.portfolio
    JOIN head h ON h.portfolio_id = l.portfolio
    RETURNING portfolio_id
), expired AS (
    DELETE FROM scheduling_logline x USING head h, total t
    WHERE t.portfolio = h.portfolio_id AND x.portfolio_id = h.portfolio_id
      AND x.no < greatest(h.last_no - {KEPT_LINES} + 1, coalesce(
            (SELECT k.no FROM scheduling_logline k WHERE k.portfolio_id = h.portfolio_id
             AND k.end_byte > h.total_bytes - {KEPT_BYTES} ORDER BY k.no LIMIT 1),
            h.last_no - t.lines + 1))
)
SELECT count(*)::int AS lines FROM written
""",
    row=WrittenRow,
)


def write_log(
    node: int, node_name: str, incarnation: UUID, batch: UUID, streams: Sequence[StreamLines]
) -> Transaction[int]:
    """Write the lines of the portfolios that this node runs or prepares; return how many.

    Lines of other portfolios are ignored, and those of a portfolio whose last batch was this one.
    """
    lines = [(number, line) for number, s in enumerate(streams, 1) for line in s.lines]
    row = yield from query_one(
        WRITE_LOG,
        node=node,
        node_name=node_name,
        incarnation=incarnation,
        batch=batch,
        portfolios=[s.portfolio for s in streams],
        epochs=[s.epoch for s in streams],
        handoffs=[s.handoff for s in streams],
        streams=[number for number, _ in lines],
        ages_ms=[min(max(line.age_ms, 0), MAX_AGE_MS) for _, line in lines],
        texts=[_stored_text(line.text) for _, line in lines],
        lost=[line.lost for _, line in lines],
    )
    return row.lines if row is not None else 0


def _stored_text(text: str) -> str:
    """Return `text` shortened and escaped: no terminal or page obeys what a strategy printed."""
    text = escape_unprintable(text)
    return text if len(text) <= MAX_LOG_LINE else f"{text[: MAX_LOG_LINE - 1]}…"


#: No concurrent writer: such lines are only read. The lines of a deleted portfolio can be read by
#: no one any more.
PRUNE_LOG_LINES = Statement(
    "PRUNE_LOG_LINES",
    """
WITH old AS (
    SELECT l.portfolio_id, l.no FROM scheduling_logline l
    JOIN portfolios_portfolio p ON p.id = l.portfolio_id
    WHERE p.archived_at IS NOT NULL
       OR l.at < clock_timestamp() - make_interval(secs => %(keep_s)s) LIMIT %(batch)s
)
DELETE FROM scheduling_logline l USING old
WHERE l.portfolio_id = old.portfolio_id AND l.no = old.no RETURNING l.no
""",
)


def prune_log_lines(keep_s: float, batch: int = 5_000) -> Transaction[int]:
    """Delete at most `batch` lines over `keep_s` old or of deleted portfolios; return how many."""
    return len((yield from query(PRUNE_LOG_LINES, keep_s=keep_s, batch=batch)))
