"""Commits: the only way to make a node's progress durable, guarded by the fence.

One set-based statement commits several portfolios. A stale commit writes nothing and does not
affect the others. A second statement classifies refused commits, since the snapshot of the first
one is older than the answer: it would call a repeat in flight a conflict, and miss an epoch that
was just raised.

The statement waits for no row lock: its holder may be frozen, and every portfolio of the request
would wait. A portfolio whose row is locked, or whose first commit has to bump the version of a node
whose row is locked, gets no answer; the daemon repeats the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from scheduling.db.statements import (
    ACTIVE_HANDOFF_STATES,
    FEED_SEGMENTS,
    NOTIFY_NODE_AND_WATCHERS,
    Statement,
)
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.enact.commit_validation import first_invalid_line
from scheduling.wire.messages import MAX_REFUSED_AGAIN, Commit, CommitResult

#: The newest segment in force of each feed.
FEED_NOW = f"""
    SELECT DISTINCT ON (feed_id) feed_id, from_seq, rate, id = 0 AS recorded,
           (extract(epoch FROM from_time) * 1e6)::bigint AS from_us
    FROM {FEED_SEGMENTS} s WHERE from_time <= clock_timestamp() OR id <= 0
    ORDER BY feed_id, id DESC
"""

#: A node that learnt too late of a pause or a new rate (it was frozen, pushes were lost) has kept
#: the old rate: its events were not released, or not at their stamped times. It has to return to
#: the checkpoint and read them again. A pause is detected by the seq alone, a new rate only if the
#: daemon names the segment that it counted by.
#: A database that lost the newest records of a recorded feed, by a promotion, takes no commit of a
#: node that has read them: beyond the head there is nothing, and a record that was stored since
#: under the number of a lost one has another hash. Only the newest can be lost, so that the last
#: record of a commit answers for those before it. Records in a stream (`STREAM_ID`) are not lost
#: with the database, and the head does not grow while the stream lacks some.
UNRELEASED = """(i.to_seq > i.from_seq AND (
       i.to_seq > s.from_seq AND (s.rate = 0 OR i.feed_us BETWEEN 1 AND s.from_us - 1)
       OR s.recorded AND NOT EXISTS (
           SELECT FROM portfolios_feedrecord d
           WHERE d.feed_id = s.feed_id AND d.seq = i.to_seq AND sha256(d.event) = i.record)))"""


class CommittedRow(NamedTuple):
    portfolio_id: int
    hints: int
    version: int


COMMIT = Statement(
    "COMMIT",
    f"""
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
), places AS MATERIALIZED (
    SELECT n.id FROM scheduling_node n
    WHERE n.id IN (SELECT source_node_id FROM closing UNION SELECT target_node_id FROM closing)
    ORDER BY n.id FOR NO KEY UPDATE SKIP LOCKED
), barred AS MATERIALIZED (
    SELECT c.portfolio_id FROM closing c
    WHERE c.source_node_id NOT IN (SELECT id FROM places)
       OR c.target_node_id NOT IN (SELECT id FROM places)
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
      AND r.portfolio_id NOT IN (SELECT portfolio_id FROM barred)
    RETURNING r.portfolio_id, r.epoch, r.revision, r.last_seq, r.last_commit_at AS now,
              r.first_commit_at AS began, i.from_seq, i.state, i.suppress, l.before, l.first
), kept AS (
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
), ends AS MATERIALIZED (
    SELECT f.portfolio_id, x.*
    FROM unnest(
        %(x_portfolios)b::bigint[], %(x_order_seqs)b::bigint[], %(x_order_indexes)b::int[],
        %(x_seqs)b::bigint[], %(x_statuses)b::text[], %(x_reasons)b::text[]
    ) AS x(portfolio, order_seq, order_index, seq, status, reason)
    JOIN fenced f ON f.portfolio_id = x.portfolio
), ordered AS (
    INSERT INTO portfolios_order (id, portfolio_id, seq, index, symbol, side, quantity, price,
        status, reason, ended_seq, epoch, node, revision, decided_at, committed_at, kind,
        limit_price, stop_price, time_in_force, tag)
    SELECT p.uid::text || '-' || o.seq || '-' || o.index, f.portfolio_id, o.seq, o.index, o.symbol,
           o.side, o.quantity::numeric, o.price::numeric,
           CASE WHEN o.status = 'open' AND EXISTS (
                SELECT FROM fills x WHERE x.portfolio_id = f.portfolio_id
                AND x.order_seq = o.seq AND x.order_index = o.index
           ) THEN 'filled' ELSE coalesce(e.status, o.status) END,
           coalesce(e.reason, o.reason), e.seq, f.epoch, %(node_name)s::text, f.revision,
           to_timestamp(o.decided_us / 1e6), f.now, o.kind, nullif(o.limit_price, '')::numeric,
           nullif(o.stop_price, '')::numeric, o.time_in_force, o.tag
    FROM unnest(
        %(o_portfolios)b::bigint[], %(o_seqs)b::bigint[], %(o_indexes)b::int[],
        %(o_symbols)b::text[], %(o_sides)b::text[], %(o_quantities)b::text[],
        %(o_prices)b::text[], %(o_statuses)b::text[], %(o_reasons)b::text[],
        %(o_decided_us)b::bigint[], %(o_kinds)b::text[], %(o_limit_prices)b::text[],
        %(o_stop_prices)b::text[], %(o_times_in_force)b::text[], %(o_tags)b::text[]
    ) AS o(portfolio, seq, index, symbol, side, quantity, price, status, reason, decided_us, kind,
           limit_price, stop_price, time_in_force, tag)
    JOIN fenced f ON f.portfolio_id = o.portfolio
    JOIN portfolios_portfolio p ON p.id = f.portfolio_id
    LEFT JOIN ends e ON e.portfolio_id = o.portfolio AND e.order_seq = o.seq
        AND e.order_index = o.index
    RETURNING id
), executed AS (
    -- By the key with the seq, so that the query plan prunes partitions.
    UPDATE portfolios_order o SET status = 'filled' FROM fills x
    WHERE o.portfolio_id = x.portfolio_id AND o.seq = x.order_seq AND o.index = x.order_index
    RETURNING o.id
), ended AS (
    -- Orders of earlier commits that were cancelled or expired.
    UPDATE portfolios_order o SET status = x.status, reason = x.reason, ended_seq = x.seq
    FROM ends x
    WHERE o.portfolio_id = x.portfolio_id AND o.seq = x.order_seq AND o.index = x.order_index
      AND o.status = 'open'
), filled AS (
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
), measured AS (
    INSERT INTO portfolios_metricpoint (portfolio_id, seq, at, name, value)
    SELECT f.portfolio_id, m.seq, to_timestamp(m.at_us / 1e6), m.name, m.value
    FROM unnest(%(m_portfolios)b::bigint[], %(m_seqs)b::bigint[], %(m_at_us)b::bigint[],
                %(m_names)b::text[], %(m_values)b::float8[])
        AS m(portfolio, seq, at_us, name, value)
    JOIN fenced f ON f.portfolio_id = m.portfolio
), suppressed AS (
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
    FROM places WHERE n.id = places.id
      AND EXISTS (SELECT FROM closed c WHERE n.id IN (c.source_node_id, c.target_node_id))
    RETURNING n.id, n.desired_version
), hinted AS (
    SELECT {NOTIFY_NODE_AND_WATCHERS} FROM touched
)
SELECT portfolio_id, (SELECT count(*) FROM hinted) AS hints,
       (SELECT desired_version FROM scheduling_node WHERE id = %(node)s) AS version
FROM fenced
""",
    row=CommittedRow,
)

LATEST_US = 253_402_300_799_000_000  #: the last second that Python can read back
LARGEST = 2**63 - 1  #: what a bigint holds


class RefusedRow(NamedTuple):
    """The run of a refused commit, and the stored answer of a release."""

    portfolio: int
    epoch: int | None
    node_id: int | None
    incarnation: UUID | None
    last_seq: int | None
    batch: UUID | None
    release_answer: str | None
    release_error: str | None
    unreleased: bool
    version: int | None


#: The runs of refused commits, read in a newer snapshot.
REFUSED = Statement(
    "REFUSED",
    f"""
SELECT i.portfolio, r.epoch, r.node_id, r.incarnation, r.last_seq, r.batch,
       h.release_answer, h.error AS release_error, coalesce({UNRELEASED}, false) AS unreleased,
       (SELECT desired_version FROM scheduling_node WHERE id = %(node)s) AS version
FROM unnest(%(portfolios)s::bigint[], %(batches)s::uuid[], %(from_seqs)s::bigint[],
            %(to_seqs)s::bigint[], %(feed_us)s::bigint[], %(records)b::bytea[])
    AS i(portfolio, batch, from_seq, to_seq, feed_us, record)
LEFT JOIN scheduling_run r ON r.portfolio_id = i.portfolio
LEFT JOIN portfolios_portfolio p ON p.id = i.portfolio
LEFT JOIN ({FEED_NOW}) s ON s.feed_id = p.feed_id
LEFT JOIN scheduling_handoff h ON h.release_batch = i.batch AND h.portfolio_id = i.portfolio
""",
    row=RefusedRow,
)

#: A refused process ends at once, so this is one line per zombie process.
FENCED_EVENT = Statement(
    "FENCED_EVENT",
    """
INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
SELECT clock_timestamp(), 'commit_refused', p.id, %(node)s, 'fence', x.reason,
       jsonb_build_object('epoch', x.epoch, 'from_seq', x.from_seq, 'to_seq', x.to_seq,
                          'orders', x.orders)
FROM unnest(%(portfolios)s::bigint[], %(epochs)s::bigint[], %(from_seqs)s::bigint[],
            %(to_seqs)s::bigint[], %(orders)s::int[], %(reasons)s::text[])
     AS x(portfolio, epoch, from_seq, to_seq, orders, reason)
JOIN portfolios_portfolio p ON p.id = x.portfolio
""",
)


def commit(
    node: int, node_name: str, incarnation: UUID, commits: Sequence[Commit]
) -> Transaction[list[CommitResult]]:
    """Commit what passes the fence. Return an answer for each portfolio, in the order given.

    A portfolio whose row is locked has no answer: repeat its commit unchanged. One statement, or
    two or three if a commit was refused. Not for releases: see `enact/handoff/release_source.py`.
    """
    rows = yield from query(COMMIT, **to_columns(node, node_name, incarnation, commits))
    passed = {row.portfolio_id: row.version for row in rows}
    refused = [c for c in commits if c.portfolio not in passed]
    answers: dict[int, CommitResult] = {
        portfolio: CommitResult(portfolio=portfolio, answer="ok", version=version)
        for portfolio, version in passed.items()
    }
    if refused:
        answers |= yield from classify_refusals(node, incarnation, refused)
    return [answers[c.portfolio] for c in commits if c.portfolio in answers]


def classify_refusals(
    node: int, incarnation: UUID, refused: Sequence[Commit]
) -> Transaction[dict[int, CommitResult]]:
    """Classify refused commits, and write an event for each one that a higher epoch fenced.

    A commit that would pass now gets no answer.
    """
    rows = yield from query(
        REFUSED,
        node=node,
        portfolios=[c.portfolio for c in refused],
        batches=[UUID(c.batch) for c in refused],
        from_seqs=[c.from_seq for c in refused],
        to_seqs=[c.to_seq for c in refused],
        feed_us=[c.feed_us for c in refused],
        records=[c.record for c in refused],
    )
    by_portfolio = {row.portfolio: row for row in rows}
    results: dict[int, CommitResult] = {}
    for each in refused:
        answer = classify(each, node, incarnation, by_portfolio[each.portfolio])
        if answer is not None:
            results[each.portfolio] = answer
    fenced = [
        c for c in refused if c.portfolio in results and results[c.portfolio].answer == "fenced"
    ]
    if fenced:
        yield from query(
            FENCED_EVENT,
            node=node,
            portfolios=[c.portfolio for c in fenced],
            epochs=[c.epoch for c in fenced],
            from_seqs=[c.from_seq for c in fenced],
            to_seqs=[c.to_seq for c in fenced],
            orders=[len(c.orders) for c in fenced],
            reasons=[results[c.portfolio].detail for c in fenced],
        )
    return results


def classify(
    commit: Commit, node: int, incarnation: UUID, found: RefusedRow
) -> CommitResult | None:
    """Return the answer to a refused commit, from the present row. Pure.

    Return None if the row matches the commit: it was locked, with an outcome not known yet.
    """

    def answer(kind: Any, detail: str = "") -> CommitResult:
        return CommitResult(portfolio=commit.portfolio, answer=kind, detail=detail)

    if commit.release is not None and found.release_answer:
        # A repeat of a release: its answer was stored, whatever the epoch is by now.
        return answer(found.release_answer, found.release_error or "")
    if found.epoch is None:
        return answer("fenced", f"epoch {commit.epoch} was refused: the portfolio is gone")
    if found.epoch > commit.epoch:
        return answer(
            "fenced", f"epoch {commit.epoch} was refused: epoch {found.epoch} owns it now"
        )
    if found.epoch < commit.epoch:
        return answer(
            "ahead", f"epoch {commit.epoch} is not granted yet: the epoch is {found.epoch}"
        )
    if found.node_id != node or found.incarnation != incarnation:
        return answer("fenced", f"epoch {commit.epoch} belongs to another node or incarnation")
    if found.batch == UUID(commit.batch):
        # A release that did not raise the epoch did not hand over.
        return answer("ok" if commit.release is None else "keep", "this batch was committed before")
    if found.unreleased:
        # With the version of the desired set, which has the feed's rate, so that the node reads it.
        return CommitResult(
            portfolio=commit.portfolio,
            answer="conflict",
            detail=f"events up to seq {commit.to_seq} were not released: the feed has changed",
            version=found.version or 0,
        )
    if found.last_seq == commit.from_seq:
        return None
    return answer("conflict", f"the portfolio is at seq {found.last_seq}, not at {commit.from_seq}")


def to_columns(
    node: int, node_name: str, incarnation: UUID, commits: Sequence[Commit]
) -> dict[str, Any]:
    """Return the parameters of COMMIT, one array per column."""
    orders = [(c.portfolio, line) for c in commits for line in c.orders]
    fills = [(c.portfolio, line) for c in commits for line in c.fills]
    equity = [(c.portfolio, line) for c in commits for line in c.equity]
    ended = [(c.portfolio, line) for c in commits for line in c.ended]
    metrics = [(c.portfolio, line) for c in commits for line in c.metrics]
    return {
        "node": node,
        "node_name": node_name,
        "incarnation": incarnation,
        "portfolios": [c.portfolio for c in commits],
        "epochs": [c.epoch for c in commits],
        "from_seqs": [c.from_seq for c in commits],
        "to_seqs": [c.to_seq for c in commits],
        "batches": [UUID(c.batch) for c in commits],
        "states": [c.state for c in commits],
        "suppressed": [c.suppress for c in commits],
        "feed_us": [c.feed_us for c in commits],
        "records": [c.record for c in commits],
        **_outcomes(commits),
        "o_portfolios": [p for p, _ in orders],
        "o_seqs": [o.seq for _, o in orders],
        "o_indexes": [o.index for _, o in orders],
        "o_symbols": [o.symbol for _, o in orders],
        "o_sides": [o.side for _, o in orders],
        "o_quantities": [o.quantity for _, o in orders],
        "o_prices": [o.price for _, o in orders],
        "o_statuses": [o.status for _, o in orders],
        "o_reasons": [o.reason for _, o in orders],
        "o_decided_us": [o.decided_us for _, o in orders],
        "o_kinds": [o.kind for _, o in orders],
        "o_limit_prices": [o.limit_price for _, o in orders],
        "o_stop_prices": [o.stop_price for _, o in orders],
        "o_times_in_force": [o.time_in_force for _, o in orders],
        "o_tags": [o.tag for _, o in orders],
        "f_portfolios": [p for p, _ in fills],
        "f_order_seqs": [f.order_seq for _, f in fills],
        "f_order_indexes": [f.order_index for _, f in fills],
        "f_seqs": [f.fill_seq for _, f in fills],
        "f_indexes": [f.index for _, f in fills],
        "f_symbols": [f.symbol for _, f in fills],
        "f_sides": [f.side for _, f in fills],
        "f_quantities": [f.quantity for _, f in fills],
        "f_prices": [f.price for _, f in fills],
        "f_at_us": [f.at_us for _, f in fills],
        "f_fees": [f.fee for _, f in fills],
        "m_portfolios": [p for p, _ in metrics],
        "m_seqs": [m.seq for _, m in metrics],
        "m_at_us": [m.at_us for _, m in metrics],
        "m_names": [m.name for _, m in metrics],
        "m_values": [m.value for _, m in metrics],
        "x_portfolios": [p for p, _ in ended],
        "x_order_seqs": [e.order_seq for _, e in ended],
        "x_order_indexes": [e.order_index for _, e in ended],
        "x_seqs": [e.seq for _, e in ended],
        "x_statuses": [e.status for _, e in ended],
        "x_reasons": [e.reason for _, e in ended],
        "e_portfolios": [p for p, _ in equity],
        "e_seqs": [e.seq for _, e in equity],
        "e_at_us": [e.at_us for _, e in equity],
        "e_equities": [e.equity for _, e in equity],
    }


#: Statuses of orders that do not go to the broker.
UNPLACED = ("refused", "suppressed")


def _outcomes(commits: Sequence[Commit]) -> dict[str, list[Any]]:
    """Count orders per commit: refused, suppressed, unplaced since the last placed one, and
    whether any was placed."""
    columns: dict[str, list[Any]] = {"refused": [], "held_back": [], "unplaced": [], "placed": []}
    for commit in commits:
        statuses = [order.status for order in commit.orders]
        since = 0
        for status in statuses:
            since = since + 1 if status in UNPLACED else 0
        # Repeated refusals have no rows, and their position among the rows is not known.
        again = commit.refused_again
        columns["refused"].append(statuses.count("refused") + again)
        columns["held_back"].append(statuses.count("suppressed"))
        columns["unplaced"].append(since + again)
        columns["placed"].append(since < len(statuses))
    return columns


def validate_commit(commit: Commit) -> str:
    """Return why `commit` is invalid regardless of the run, or "" if it is valid. Pure."""
    for number in (
        commit.portfolio, commit.epoch, commit.from_seq, commit.to_seq, commit.feed_us,
    ):  # fmt: skip
        if not -LARGEST <= number <= LARGEST:
            return f"the number {number} is out of range"
    if not 0 <= commit.refused_again <= MAX_REFUSED_AGAIN:
        return f"the number {commit.refused_again} of refusals is out of range"
    if len(commit.record) not in (0, 32):
        return f"the hash of the last record has {len(commit.record)} bytes; it has 32"
    if commit.to_seq < commit.from_seq:
        return f"to_seq {commit.to_seq} lies before from_seq {commit.from_seq}"
    try:
        UUID(commit.batch)
    except ValueError:
        return f"batch {commit.batch[:40]!r} is not a UUID"
    seqs = [o.seq for o in commit.orders] + [f.fill_seq for f in commit.fills]
    seqs += [e.seq for e in commit.equity] + [e.seq for e in commit.ended]
    seqs += [m.seq for m in commit.metrics]
    for seq in seqs:
        if not commit.from_seq < seq <= commit.to_seq:
            return f"seq {seq} of an order, its end, fill or equity point lies outside the batch"
    times = [o.decided_us for o in commit.orders] + [f.at_us for f in commit.fills]
    times += [e.at_us for e in commit.equity] + [m.at_us for m in commit.metrics]
    for at_us in times:
        if not 0 <= at_us <= LATEST_US:
            return f"the time {at_us} lies outside the years 1970 to 9999"
    return first_invalid_line(commit)


CHECKPOINT = Statement(
    "CHECKPOINT",
    f"""
SELECT r.epoch, r.revision, r.last_seq, r.state_seq, c.state,
       coalesce(c.revision, r.revision) AS state_revision
FROM scheduling_run r LEFT JOIN portfolios_checkpoint c ON c.portfolio_id = r.portfolio_id
WHERE r.portfolio_id = %(portfolio)s AND (
    (r.node_id = %(node)s AND r.incarnation = %(incarnation)s)
    OR EXISTS (SELECT FROM scheduling_handoff h WHERE h.id = %(handoff)s
               AND h.portfolio_id = r.portfolio_id AND h.target_node_id = %(node)s
               AND h.target_incarnation = %(incarnation)s
               AND h.state IN {ACTIVE_HANDOFF_STATES})
)
""",
)


def checkpoint(
    node: int, incarnation: UUID, portfolio: int, handoff: int | None
) -> Transaction[Row | None]:
    """Return run and state, or None if the caller is neither the owner nor the target."""
    return (
        yield from query_one(
            CHECKPOINT, node=node, incarnation=incarnation, portfolio=portfolio, handoff=handoff
        )
    )
