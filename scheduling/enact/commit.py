"""Commits: the only way to make a node's progress durable, guarded by the fence.

One set-based statement commits several portfolios. A stale commit writes nothing and does not
affect the others. A second statement classifies refused commits in a newer snapshot: in that of the
first, a repeat in flight would look like a conflict, and an epoch raised just now would be missing.

The statement waits for no row lock: its holder may be frozen, and every portfolio of the request
would wait. A portfolio whose row is locked, or whose first commit has to raise the version of a
node whose row is locked, gets no answer; the daemon repeats the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from scheduling.db.statements import NOTIFY_NODE_AND_WATCHERS, Statement
from scheduling.db.transaction import Transaction, query
from scheduling.enact.commit_columns import are_plain, to_columns
from scheduling.enact.commit_refusals import FEED_NOW, UNRELEASED, classify_refusals
from scheduling.wire.messages import Commit, CommitResult


class CommittedRow(NamedTuple):
    portfolio_id: int
    hints: int  #: only selected so that PostgreSQL executes the notifications
    version: int  #: of the node's desired set


#: The parts for rare lines: ends of orders, metrics, and orders other than market orders.
_ENDS = """), ends AS MATERIALIZED (
    SELECT f.portfolio_id, x.*
    FROM unnest(
        %(x_portfolios)b::bigint[], %(x_order_seqs)b::bigint[], %(x_order_indexes)b::int[],
        %(x_seqs)b::bigint[], %(x_statuses)b::text[], %(x_reasons)b::text[]
    ) AS x(portfolio, order_seq, order_index, seq, status, reason)
    JOIN fenced f ON f.portfolio_id = x.portfolio
"""
_ENDED = """), ended AS (
    -- Orders of earlier commits that were cancelled or expired.
    UPDATE portfolios_order o SET status = x.status, reason = x.reason, ended_seq = x.seq
    FROM ends x
    WHERE o.portfolio_id = x.portfolio_id AND o.seq = x.order_seq AND o.index = x.order_index
      AND o.status = 'open'
"""
_MEASURED = """), measured AS (
    INSERT INTO portfolios_metricpoint (portfolio_id, seq, at, name, value)
    SELECT f.portfolio_id, m.seq, to_timestamp(m.at_us / 1e6), m.name, m.value
    FROM unnest(%(m_portfolios)b::bigint[], %(m_seqs)b::bigint[], %(m_at_us)b::bigint[],
                %(m_names)b::text[], %(m_values)b::float8[])
        AS m(portfolio, seq, at_us, name, value)
    JOIN fenced f ON f.portfolio_id = m.portfolio
"""
_JOIN_ENDS = """LEFT JOIN ends e ON e.portfolio_id = o.portfolio AND e.order_seq = o.seq
        AND e.order_index = o.index"""
_ORDER_ARRAYS = """, %(o_kinds)b::text[], %(o_limit_prices)b::text[],
        %(o_stop_prices)b::text[], %(o_times_in_force)b::text[], %(o_tags)b::text[]"""
_ORDER_COLUMNS = ", kind, limit_price, stop_price, time_in_force, tag"
_ORDER_FIELDS = """o.kind, nullif(o.limit_price, '')::numeric,
           nullif(o.stop_price, '')::numeric, o.time_in_force, o.tag"""


def _commit_statement(*, rare: bool) -> Statement[CommittedRow]:
    """Return the statement COMMIT, whose parameters `to_columns` explains.

    Only if `rare`, it takes ends of orders, metrics, and orders other than plain market orders.
    Both variants have one name, so that a failpoint after COMMIT applies to both.
    """
    ends, join_ends, ended, measured = "", "", "", ""
    status, reason, ended_seq = "o.status", "o.reason", "NULL"
    order_arrays, order_columns, order_fields = "", "", "'market', NULL, NULL, 'gtc', ''"
    if rare:
        ends, join_ends, ended, measured = _ENDS, _JOIN_ENDS, _ENDED, _MEASURED
        status, reason = "coalesce(e.status, o.status)", "coalesce(e.reason, o.reason)"
        ended_seq = "e.seq"
        order_arrays, order_columns, order_fields = _ORDER_ARRAYS, _ORDER_COLUMNS, _ORDER_FIELDS
    sql = f"""
WITH input AS MATERIALIZED (
    SELECT * FROM unnest(
        %(portfolios)b::bigint[], %(epochs)b::bigint[], %(from_seqs)b::bigint[],
        %(to_seqs)b::bigint[], %(batches)b::uuid[], %(states)b::bytea[], %(suppressed)b::boolean[],
        %(feed_us)b::bigint[], %(refused)b::int[], %(held_back)b::int[], %(unplaced)b::int[],
        %(placed)b::boolean[], %(records)b::bytea[]
    ) AS i(portfolio, epoch, from_seq, to_seq, batch, state, suppress, feed_us, refused, held_back,
           unplaced, placed, record)
), feed_now AS MATERIALIZED ({FEED_NOW}), locked AS MATERIALIZED (
    SELECT r.portfolio_id, r.epoch, r.last_commit_at AS before,
           r.first_commit_at IS NULL AS first
    FROM scheduling_run r JOIN input i ON r.portfolio_id = i.portfolio
    JOIN portfolios_portfolio p ON p.id = i.portfolio
    LEFT JOIN feed_now s ON s.feed_id = p.feed_id
    WHERE r.epoch = i.epoch AND r.node_id = %(node)s AND r.incarnation = %(incarnation)s
      AND r.last_seq = i.from_seq AND {UNRELEASED} IS NOT TRUE
    ORDER BY r.portfolio_id
    FOR UPDATE OF r SKIP LOCKED
), closing AS MATERIALIZED (
    -- The handoffs that the first commit of an epoch ends. Their writers lock the run first.
    SELECT h.id, h.portfolio_id, h.source_node_id, h.target_node_id
    FROM locked l JOIN scheduling_handoff h
        ON h.portfolio_id = l.portfolio_id AND h.to_epoch = l.epoch AND h.state = 'activating'
    WHERE l.first
), free_nodes AS MATERIALIZED (
    -- The nodes whose desired versions rise then, without those whose rows are locked.
    SELECT n.id FROM scheduling_node n
    WHERE n.id IN (SELECT source_node_id FROM closing UNION SELECT target_node_id FROM closing)
    ORDER BY n.id FOR NO KEY UPDATE SKIP LOCKED
), waiting AS MATERIALIZED (
    -- Portfolios that wait for such a locked row: their commits get no answer and are repeated.
    SELECT c.portfolio_id FROM closing c
    WHERE c.source_node_id NOT IN (SELECT id FROM free_nodes)
       OR c.target_node_id NOT IN (SELECT id FROM free_nodes)
), fenced AS (
    -- Concurrent writer: a grant that raised the epoch, or the same batch sent twice. Then no row
    -- matches, and everything below selects from nothing.
    UPDATE scheduling_run r SET
        last_seq = i.to_seq,
        state_seq = CASE WHEN i.state IS NULL THEN r.state_seq ELSE i.to_seq END,
        batch = i.batch,
        first_commit_at = coalesce(r.first_commit_at, clock_timestamp()),
        last_commit_at = clock_timestamp(),
        -- Attempts count for the event they failed at; commits before that event prove nothing.
        attempts = CASE WHEN i.to_seq > i.from_seq AND i.to_seq >= coalesce(r.failed_seq, 0)
                        THEN 0 ELSE r.attempts END,
        failed_seq = CASE WHEN i.to_seq >= r.failed_seq THEN NULL ELSE r.failed_seq END,
        reason = CASE WHEN l.first OR (i.to_seq > i.from_seq AND r.attempts > 0
                                       AND i.to_seq >= coalesce(r.failed_seq, 0)) THEN ''
                      ELSE r.reason END,
        failures_by_node = CASE WHEN i.to_seq > i.from_seq THEN '{{}}'::jsonb
                                ELSE r.failures_by_node END,
        orders_refused = r.orders_refused + i.refused,
        orders_suppressed = r.orders_suppressed + i.held_back,
        unplaced_orders = CASE WHEN i.placed THEN i.unplaced
                               ELSE r.unplaced_orders + i.unplaced END,
        unplaced_since = CASE
            WHEN i.unplaced > 0 AND (i.placed OR r.unplaced_orders = 0) THEN clock_timestamp()
            WHEN i.placed THEN NULL ELSE r.unplaced_since END,
        -- A portfolio that was told to drain before its first commit goes on draining.
        phase = CASE WHEN l.first AND r.phase = 'starting' THEN 'running' ELSE r.phase END,
        phase_since = CASE WHEN l.first AND r.phase = 'starting' THEN clock_timestamp()
                           ELSE r.phase_since END
    FROM input i, locked l
    WHERE l.portfolio_id = i.portfolio AND r.portfolio_id = i.portfolio
      AND r.epoch = i.epoch AND r.node_id = %(node)s AND r.incarnation = %(incarnation)s
      AND r.last_seq = i.from_seq
      AND r.portfolio_id NOT IN (SELECT portfolio_id FROM waiting)
    RETURNING r.portfolio_id, r.epoch, r.revision, r.last_seq, r.last_commit_at AS now,
              r.first_commit_at AS began, i.from_seq, i.state, i.suppress, l.before, l.first
), checkpointed AS (
    INSERT INTO portfolios_checkpoint AS c (portfolio_id, epoch, revision, seq, state, at)
    SELECT portfolio_id, epoch, revision, last_seq, state, now FROM fenced WHERE state IS NOT NULL
    ON CONFLICT (portfolio_id) DO UPDATE SET epoch = excluded.epoch, revision = excluded.revision,
        seq = excluded.seq, state = excluded.state, at = excluded.at
), fills AS MATERIALIZED (
    SELECT f.portfolio_id, f.epoch, p.uid::text || '-' || x.order_seq || '-' || x.order_index AS id,
           x.*
    FROM unnest(
        %(f_portfolios)b::bigint[], %(f_order_seqs)b::bigint[], %(f_order_indexes)b::int[],
        %(f_seqs)b::bigint[], %(f_indexes)b::int[], %(f_symbols)b::text[], %(f_sides)b::text[],
        %(f_quantities)b::text[], %(f_prices)b::text[], %(f_at_us)b::bigint[], %(f_fees)b::text[]
    ) AS x(portfolio, order_seq, order_index, fill_seq, index, symbol, side, quantity, price, at_us,
           fee)
    JOIN fenced f ON f.portfolio_id = x.portfolio
    JOIN portfolios_portfolio p ON p.id = f.portfolio_id
{ends}), ordered AS (
    INSERT INTO portfolios_order (id, portfolio_id, seq, index, symbol, side, quantity, price,
        status, reason, ended_seq, epoch, node, revision, decided_at, committed_at, kind,
        limit_price, stop_price, time_in_force, tag)
    SELECT p.uid::text || '-' || o.seq || '-' || o.index, f.portfolio_id, o.seq, o.index, o.symbol,
           o.side, o.quantity::numeric, o.price::numeric,
           CASE WHEN o.status = 'open' AND EXISTS (
                SELECT FROM fills x WHERE x.portfolio_id = f.portfolio_id
                AND x.order_seq = o.seq AND x.order_index = o.index
           ) THEN 'filled' ELSE {status} END,
           {reason}, {ended_seq}, f.epoch, %(node_name)s::text, f.revision,
           to_timestamp(o.decided_us / 1e6), f.now,
           {order_fields}
    FROM unnest(
        %(o_portfolios)b::bigint[], %(o_seqs)b::bigint[], %(o_indexes)b::int[],
        %(o_symbols)b::text[], %(o_sides)b::text[], %(o_quantities)b::text[],
        %(o_prices)b::text[], %(o_statuses)b::text[], %(o_reasons)b::text[],
        %(o_decided_us)b::bigint[]{order_arrays}
    ) AS o(portfolio, seq, index, symbol, side, quantity, price, status, reason, decided_us
           {order_columns})
    JOIN fenced f ON f.portfolio_id = o.portfolio
    JOIN portfolios_portfolio p ON p.id = f.portfolio_id
    {join_ends}
    RETURNING id
), executed AS (
    -- By the key with the seq, so that the query plan prunes partitions.
    UPDATE portfolios_order o SET status = 'filled' FROM fills x
    WHERE o.portfolio_id = x.portfolio_id AND o.seq = x.order_seq AND o.index = x.order_index
    RETURNING o.id
{ended}), filled AS (
    -- A fill whose order is neither in this commit nor stored has a NULL order id and fails.
    INSERT INTO portfolios_fill (portfolio_id, order_id, fill_seq, index, symbol, side, quantity,
        price, epoch, at, fee)
    SELECT x.portfolio_id, coalesce(e.id, o.id), x.fill_seq, x.index, x.symbol, x.side,
           x.quantity::numeric, x.price::numeric, x.epoch, to_timestamp(x.at_us / 1e6),
           x.fee::numeric
    FROM fills x LEFT JOIN executed e ON e.id = x.id LEFT JOIN ordered o ON o.id = x.id
), valued AS (
    INSERT INTO portfolios_equitypoint (portfolio_id, seq, at, equity)
    SELECT f.portfolio_id, e.seq, to_timestamp(e.at_us / 1e6), e.equity::numeric
    FROM unnest(%(e_portfolios)b::bigint[], %(e_seqs)b::bigint[], %(e_at_us)b::bigint[],
                %(e_equities)b::text[]) AS e(portfolio, seq, at_us, equity)
    JOIN fenced f ON f.portfolio_id = e.portfolio
{measured}), suppressed AS (
    INSERT INTO portfolios_suppression (portfolio_id, from_seq, to_seq, epoch)
    SELECT portfolio_id, from_seq + 1, last_seq, epoch FROM fenced
    WHERE suppress AND last_seq > from_seq
), closed AS (
    -- The first commit of an epoch also ends its handoff.
    UPDATE scheduling_handoff h SET state = 'done', activated_at = f.now, finished_at = f.now,
        pause_ms = extract(epoch FROM f.now - f.before) * 1000
    FROM fenced f JOIN closing c ON c.portfolio_id = f.portfolio_id
    WHERE h.id = c.id AND h.state = 'activating'
    RETURNING h.id, h.kind, h.portfolio_id, h.source_node_id, h.target_node_id, h.pause_ms
), returned AS (
    -- After a rollback the pause lasts until the source commits again.
    UPDATE scheduling_handoff h SET pause_ms = extract(epoch FROM f.now - f.before) * 1000
    FROM fenced f
    WHERE f.first AND h.portfolio_id = f.portfolio_id AND h.to_epoch + 1 = f.epoch
      AND h.state = 'rolled_back' AND h.pause_ms IS NULL
), begun AS (
    UPDATE scheduling_tenure t SET first_commit_at = f.began,
        pause_ms = extract(epoch FROM f.now - f.before) * 1000
    FROM fenced f WHERE f.first AND t.portfolio_id = f.portfolio_id AND t.epoch = f.epoch
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT clock_timestamp(), 'handoff_done', portfolio_id, target_node_id, '', '',
           jsonb_build_object('handoff', id, 'kind', kind, 'pause_ms', pause_ms)
    FROM closed
), touched AS (
    UPDATE scheduling_node n SET desired_version = n.desired_version + 1
    FROM free_nodes f WHERE n.id = f.id
      AND EXISTS (SELECT FROM closed c WHERE n.id IN (c.source_node_id, c.target_node_id))
    RETURNING n.id, n.desired_version
), hinted AS (
    SELECT {NOTIFY_NODE_AND_WATCHERS} FROM touched
)
SELECT portfolio_id, (SELECT count(*) FROM hinted) AS hints,
       (SELECT desired_version FROM scheduling_node WHERE id = %(node)s) AS version
FROM fenced
"""
    return Statement("COMMIT", sql, row=CommittedRow)


COMMIT = _commit_statement(rare=True)
#: For commits without rare lines: it costs a seventh less.
COMMIT_PLAIN = _commit_statement(rare=False)


def commit(
    node: int, node_name: str, incarnation: UUID, commits: Sequence[Commit]
) -> Transaction[list[CommitResult]]:
    """Commit what passes the fence. Return an answer for each portfolio, in the order given.

    A portfolio gets no answer if a row that its commit changes is locked, so that the others need
    not wait. The daemon repeats such a commit unchanged.
    One statement, or two or three if a commit was refused. Releases are committed by
    `enact/handoff/release_source.py` instead.
    """
    statement = COMMIT_PLAIN if are_plain(commits) else COMMIT
    rows = yield from query(statement, **to_columns(node, node_name, incarnation, commits))
    passed = {row.portfolio_id: row.version for row in rows}
    refused = [c for c in commits if c.portfolio not in passed]
    answers: dict[int, CommitResult] = {
        portfolio: CommitResult(portfolio=portfolio, answer="ok", version=version)
        for portfolio, version in passed.items()
    }
    if refused:
        answers |= yield from classify_refusals(node, incarnation, refused)
    return [answers[c.portfolio] for c in commits if c.portfolio in answers]
