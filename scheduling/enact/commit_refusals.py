"""Refused commits: find the cause in a newer snapshot, and record those that the fence kept out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from scheduling.db.statements import FEED_SEGMENTS, Statement
from scheduling.db.transaction import Transaction, query
from scheduling.wire.messages import Commit, CommitResult

#: The newest segment in force of each feed. Ids up to 0 are those of recorded feeds.
FEED_NOW = f"""
    SELECT DISTINCT ON (feed_id) feed_id, from_seq, rate, id = 0 AS recorded,
           (extract(epoch FROM from_time) * 1e6)::bigint AS from_us
    FROM {FEED_SEGMENTS} s WHERE from_time <= clock_timestamp() OR id <= 0
    ORDER BY feed_id, id DESC
"""

#: The condition that a commit `i` is of events that the feed segment `s` has not released.
#: Packaged feeds: a node that learnt too late of a pause or a new rate (it was frozen, pushes were
#: lost) has kept the old rate: its events were not released, or not at their stamped times. The
#: node has to return to the checkpoint and read them again. A pause is detected by the seq alone, a
#: new rate only if the daemon names the segment that it counted by.
#: Recorded feeds: a database that lost the newest records, by a promotion, must refuse a commit of
#: a node that has read them. Such a record is beyond the head, or another record was stored under
#: its seq since, with another hash. Only the newest records can be lost, so checking the last
#: record of a commit is enough. Records in a stream (`STREAM_ID`) are not lost with the database,
#: and the head does not grow while the stream lacks some.
UNRELEASED = """(i.to_seq > i.from_seq AND (
       i.to_seq > s.from_seq AND (s.rate = 0 OR i.feed_us BETWEEN 1 AND s.from_us - 1)
       OR s.recorded AND NOT EXISTS (
           SELECT FROM portfolios_feedrecord d
           WHERE d.feed_id = s.feed_id AND d.seq = i.to_seq AND sha256(d.event) = i.record)))"""


class RefusedRow(NamedTuple):
    """The run of a refused commit (all None: it is gone), and the stored answer of its release."""

    portfolio: int
    epoch: int | None
    node_id: int | None
    incarnation: UUID | None
    last_seq: int | None
    batch: UUID | None
    release_answer: str | None
    release_error: str | None
    unreleased: bool  #: the feed has not released its events
    version: int | None  #: of the node's desired set


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

#: Seconds within which refused commits that would have the same line of the audit log are counted
#: in that line.
FENCED_WITHIN_S = 3600.0

#: Within FENCED_WITHIN_S, so many portfolios of a node have lines of their own although no tenure
#: says that the node had the epoch. The others have one line in common, marked `shared`.
MAX_WITHOUT_TENURE = 200

#: Record refused commits in the audit log. A refused process ends at once, so each epoch that was
#: granted to the node has one line. If the database lost the grants, each portfolio has one line. A
#: node that goes on, or names portfolios that it never had, must not fill the audit log.
FENCED_EVENT = Statement(
    "FENCED_EVENT",
    """
WITH lines AS MATERIALIZED (
    SELECT e.id, e.portfolio_id AS portfolio, (e.data->>'epoch')::bigint AS epoch,
           (e.data->>'granted')::boolean AS granted, e.data ? 'shared' AS shared
    FROM scheduling_event e
    WHERE e.kind = 'commit_refused' AND e.node_id = %(node)s AND e.data ? 'granted'
      AND e.at > (SELECT clock_timestamp() - make_interval(secs => %(within_s)s))
), named AS MATERIALIZED (
    SELECT x.*, t.portfolio_id IS NOT NULL AS granted, l.id AS own
    FROM unnest(%(portfolios)s::bigint[], %(epochs)s::bigint[], %(from_seqs)s::bigint[],
                %(to_seqs)s::bigint[], %(orders)s::int[], %(reasons)s::text[])
         AS x(portfolio, epoch, from_seq, to_seq, orders, reason)
    JOIN portfolios_portfolio p ON p.id = x.portfolio
    LEFT JOIN scheduling_tenure t ON t.portfolio_id = x.portfolio AND t.epoch = x.epoch
        AND t.node_id = %(node)s
    LEFT JOIN LATERAL (
        SELECT max(l.id) AS id FROM lines l
        WHERE NOT l.shared AND l.portfolio = x.portfolio
          AND CASE WHEN t.portfolio_id IS NULL THEN NOT l.granted
                   ELSE l.granted AND l.epoch = x.epoch END
    ) l ON true
), numbered AS MATERIALIZED (
    SELECT n.*, n.own IS NULL AND NOT n.granted AND %(most_without_tenure)s
                < (SELECT count(*) FROM lines l WHERE NOT l.granted AND NOT l.shared)
                  + dense_rank() OVER (PARTITION BY n.granted, n.own IS NULL ORDER BY n.portfolio)
           AS shared
    FROM named n
), refused AS MATERIALIZED (
    SELECT n.*, CASE WHEN NOT n.shared THEN n.portfolio END AS whose,
           CASE WHEN n.shared THEN (SELECT max(l.id) FROM lines l WHERE l.shared) ELSE n.own END
           AS line
    FROM numbered n
), free AS MATERIALIZED (
    -- Concurrent writer: another request of the node. Its commits are not counted: nothing that
    -- answers commits waits for a row.
    SELECT e.id FROM scheduling_event e WHERE e.id IN (SELECT line FROM refused)
    ORDER BY e.id FOR UPDATE SKIP LOCKED
), counted AS (
    UPDATE scheduling_event e SET data = jsonb_set(
        e.data, '{times}', to_jsonb((e.data->>'times')::bigint + more.times))
    FROM free JOIN (SELECT line, count(*) AS times FROM refused GROUP BY line) more
        ON more.line = free.id
    WHERE e.id = free.id
)
INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
SELECT DISTINCT ON (x.whose) clock_timestamp(), 'commit_refused', x.portfolio, %(node)s, 'fence',
       x.reason, jsonb_build_object(
           'epoch', x.epoch, 'from_seq', x.from_seq, 'to_seq', x.to_seq, 'orders', x.orders,
           'granted', x.granted, 'times', count(*) OVER (PARTITION BY x.whose))
       || CASE WHEN x.shared THEN '{"shared": true}' ELSE '{}' END::jsonb
FROM refused x WHERE x.line IS NULL
ORDER BY x.whose, x.portfolio
""",
)


def classify_refusals(
    node: int, incarnation: UUID, refused: Sequence[Commit]
) -> Transaction[dict[int, CommitResult]]:
    """Return portfolio → answer to its refused commit, and record fenced ones in the audit log.

    A commit that would pass now gets no answer: its daemon repeats it.
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
            within_s=FENCED_WITHIN_S,
            most_without_tenure=MAX_WITHOUT_TENURE,
        )
    return results


def classify(
    commit: Commit, node: int, incarnation: UUID, found: RefusedRow
) -> CommitResult | None:
    """Return the answer to a refused commit, from `found`, its run as it is now. Pure.

    Return None if the run matches the commit: it was refused only because another transaction had
    locked the row, so the daemon tries again.
    """

    def answer(kind: Any, detail: str = "") -> CommitResult:
        return CommitResult(portfolio=commit.portfolio, answer=kind, detail=detail)

    if commit.release is not None and found.release_answer:
        # A repeat of a release: its answer was stored, whatever the epoch is by now.
        return answer(found.release_answer, found.release_error or "")
    if found.epoch is None:
        return answer("fenced", f"epoch {commit.epoch} was refused: the portfolio is gone")
    if found.epoch > commit.epoch:
        return answer("fenced", f"epoch {commit.epoch} was refused: the epoch is {found.epoch} now")
    if found.epoch < commit.epoch:
        return answer(
            "ahead", f"epoch {commit.epoch} is not granted yet: the epoch is {found.epoch}"
        )
    if found.node_id != node or found.incarnation != incarnation:
        return answer("fenced", f"epoch {commit.epoch} belongs to another node or incarnation")
    if found.batch == UUID(commit.batch):
        # The run is still at the epoch of the release, so the release did not hand over:
        # the source keeps the portfolio.
        return answer("ok" if commit.release is None else "keep", "this batch was committed before")
    if found.unreleased:
        # The version of the desired set makes the node fetch that set, which has the feed's rate.
        return CommitResult(
            portfolio=commit.portfolio,
            answer="conflict",
            detail=f"events up to seq {commit.to_seq} were not released: the feed has changed",
            version=found.version or 0,
        )
    if found.last_seq == commit.from_seq:
        return None
    return answer("conflict", f"the portfolio is at seq {found.last_seq}, not at {commit.from_seq}")
