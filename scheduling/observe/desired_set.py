"""The desired set of one node, read in one statement so that set and version match."""

from __future__ import annotations

from typing import Any

from scheduling.db.statements import Statement
from scheduling.db.transaction import Row, Transaction, query
from scheduling.wire.messages import DesiredEntry, DesiredSet, FeedInfo, SegmentInfo

#: The entries of a node for its incarnation: its runs (to run or to drain), handoffs to prepare,
#: and released processes to keep warm. No rows if `known` is the current version.
DESIRED = Statement(
    "DESIRED",
    """
WITH me AS (
    SELECT n.id, n.desired_version, l.incarnation
    FROM scheduling_node n JOIN scheduling_lease l ON l.node_id = n.id
    WHERE n.id = %(node)s AND n.desired_version > %(known)s
), entries AS (
    SELECT r.portfolio_id, r.epoch, r.revision,
           CASE WHEN h.state = 'draining' AND h.from_epoch = r.epoch THEN 'drain' ELSE 'run' END
               AS role,
           CASE WHEN h.state = 'draining' AND h.from_epoch = r.epoch THEN h.id
                WHEN h.state = 'activating' AND h.to_epoch = r.epoch THEN h.id END AS handoff
    FROM me JOIN scheduling_run r ON r.node_id = me.id AND r.incarnation = me.incarnation
    LEFT JOIN scheduling_handoff h ON h.portfolio_id = r.portfolio_id
        AND h.state IN ('draining', 'activating')
    UNION ALL
    SELECT h.portfolio_id, h.from_epoch, h.to_revision, 'prepare', h.id
    FROM me JOIN scheduling_handoff h
        ON h.target_node_id = me.id AND h.target_incarnation = me.incarnation
    WHERE h.state IN ('preparing', 'draining') AND h.kind <> 'stop'
    UNION ALL
    SELECT h.portfolio_id, h.from_epoch, h.from_revision, 'warm', h.id
    FROM me JOIN scheduling_handoff h
        ON h.source_node_id = me.id AND h.source_incarnation = me.incarnation
    WHERE h.state = 'activating' AND h.release_answer = 'handed_over'
)
SELECT me.desired_version AS version, e.portfolio_id, e.role, e.epoch, e.revision, e.handoff,
       r.attempts, coalesce(r.failed_seq, 0) AS failed_seq,
       coalesce(r.resume_seq, 0) AS resume_seq,
       coalesce(r.resumed_from, -1) AS resumed_from, p.name, p.uid, p.catch_up,
       p.starting_cash, p.first_seq, f.name AS feed,
       v.strategy, v.strategy_version, v.config, v.symbols, v.limits,
       v.artifact_sha256, a.env_sha256, s.class_path,
       EXISTS (SELECT FROM scheduling_control c WHERE c.frozen_at IS NOT NULL) AS frozen,
       (SELECT jsonb_agg(jsonb_build_object('name', x.name, 'sha256', x.sha256, 'kind', x.kind,
            'length', x.length, 'segments',
            (SELECT coalesce(jsonb_agg(jsonb_build_array(s.from_seq,
                 (extract(epoch FROM s.from_time) * 1e6)::bigint, s.rate) ORDER BY s.id), '[]')
             FROM portfolios_feedsegment s WHERE s.feed_id = x.id)))
        FROM portfolios_feed x) AS feeds
FROM me
LEFT JOIN entries e ON true
LEFT JOIN scheduling_run r ON r.portfolio_id = e.portfolio_id
LEFT JOIN portfolios_portfolio p ON p.id = e.portfolio_id
LEFT JOIN portfolios_feed f ON f.id = p.feed_id
LEFT JOIN portfolios_revision v ON v.portfolio_id = e.portfolio_id AND v.number = e.revision
LEFT JOIN portfolios_artifact a ON a.sha256 = v.artifact_sha256
LEFT JOIN portfolios_strategy s ON s.artifact_id = v.artifact_sha256 AND s.name = v.strategy
ORDER BY e.portfolio_id, e.role
""",
)


def desired_set(node: int, known: int = -1) -> Transaction[DesiredSet | None]:
    """Return the desired set of `node` for its current incarnation.

    None if the node has no lease, or if `known` is the current version.
    """
    rows = yield from query(DESIRED, node=node, known=known)
    if not rows:
        return None
    first = rows[0]
    return DesiredSet(
        version=first.version,
        entries=[_entry(row) for row in rows if row.portfolio_id is not None],
        feeds=[
            FeedInfo(
                name=feed["name"],
                sha256=feed["sha256"],
                length=feed["length"],
                kind=feed["kind"],
                segments=[
                    SegmentInfo(int(s), int(us), float(rate)) for s, us, rate in feed["segments"]
                ],
            )
            for feed in first.feeds or []
        ],
        frozen=first.frozen,
    )


def _entry(row: Row) -> DesiredEntry:
    return DesiredEntry(
        portfolio=row.portfolio_id,
        name=row.name,
        role=row.role,
        epoch=row.epoch,
        revision=row.revision,
        handoff=row.handoff,
        attempts=row.attempts,
        catch_up=row.catch_up,
        resume_seq=row.resume_seq,
        resumed_from=row.resumed_from,
        failed_seq=row.failed_seq,
        feed=row.feed,
        spec=spec_of(row),
    )


def spec_of(row: Any) -> dict[str, Any]:
    """Return the fields of `portfolios.runtime.spec.Spec` from a row of portfolio and revision."""
    limits = {name: value for name, value in (row.limits or {}).items() if value is not None}
    broker = limits.pop("broker", None)
    spec = {
        "portfolio": row.name,
        "uid": str(row.uid),
        "revision": row.revision,
        "strategy": row.strategy,
        "strategy_version": row.strategy_version,
        "parameters": row.config,
        "symbols": row.symbols,
        "limits": _as_in_spec(limits),
        "starting_cash": str(row.starting_cash),
        "first_seq": row.first_seq,
        "artifact": row.artifact_sha256 or "",
        "environment": row.env_sha256 or "",
        "strategy_class": row.class_path or "",
    }
    if broker:
        spec["broker"] = _as_in_spec(broker)
    return spec


def _as_in_spec(values: dict[str, Any]) -> dict[str, Any]:
    """Return limits with counts as integers, and amounts as texts to keep their decimal places."""
    in_spec: dict[str, Any] = {}
    for name, value in values.items():
        if name in ("orders_per_minute", "slippage_ticks"):
            in_spec[name] = int(value)
        else:
            in_spec[name] = value if isinstance(value, bool) else str(value)
    return in_spec
