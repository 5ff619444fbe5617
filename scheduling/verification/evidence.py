"""The evidence of a verification: the record of one portfolio up to a commit, in one snapshot."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import psycopg
from django.conf import settings

from portfolios.feeds import UnknownFeed, open_feed
from portfolios.feeds.base import Feed
from portfolios.feeds.clock import Segment
from portfolios.models import FeedKind, FeedRow
from portfolios.runtime.spec import Spec
from portfolios.verify.reference_run import merge_ranges
from portfolios.verify.types import Archived, CannotVerify, RecordedRun, TenureSegment
from scheduling.db.snapshot import repeatable_read
from scheduling.decide.ownership_history import (
    EVENT_KINDS,
    AuditLine,
    CurrentRun,
    OwnershipPeriod,
    find_disagreement,
)
from scheduling.errors import NotFound
from scheduling.observe.desired_set import spec_of
from scheduling.verification.recorded_feed import RecordedFeed

#: A deleted portfolio keeps its rows; of several with one name, the newest is read. A caller that
#: knows the id passes it: the name may be reused while a verification waits.
PORTFOLIO = """
SELECT p.id, p.name, p.uid, p.starting_cash, p.first_seq, p.archived_at,
       f.name AS feed, f.sha256 AS feed_sha, f.kind AS feed_kind,
       r.epoch, r.incarnation, r.revision, r.last_seq, r.phase, n.name AS node,
       c.seq AS checkpoint_seq, c.state, clock_timestamp() AS taken_at,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(s.from_seq,
            (extract(epoch FROM s.from_time) * 1e6)::bigint, s.rate) ORDER BY s.id), '[]')
        FROM portfolios_feedsegment s WHERE s.feed_id = f.id) AS segments
FROM portfolios_portfolio p
JOIN portfolios_feed f ON f.id = p.feed_id
JOIN scheduling_run r ON r.portfolio_id = p.id
LEFT JOIN scheduling_node n ON n.id = r.node_id
LEFT JOIN portfolios_checkpoint c ON c.portfolio_id = p.id
WHERE p.id = %(id)s::bigint OR p.name = %(name)s::text
ORDER BY p.archived_at DESC NULLS FIRST, p.id DESC
LIMIT 1
"""

TENURES = """
SELECT t.epoch, t.incarnation, t.revision, t.from_seq, t.to_seq, t.cause, t.handoff_id,
       t.first_commit_at, t.python, n.name AS node,
       v.strategy, v.strategy_version, v.config, v.symbols, v.limits,
       v.artifact_sha256, a.env_sha256, s.class_path
FROM scheduling_tenure t
LEFT JOIN scheduling_node n ON n.id = t.node_id
LEFT JOIN portfolios_revision v ON v.portfolio_id = t.portfolio_id AND v.number = t.revision
LEFT JOIN portfolios_artifact a ON a.sha256 = v.artifact_sha256
LEFT JOIN portfolios_strategy s ON s.artifact_id = v.artifact_sha256 AND s.name = v.strategy
WHERE t.portfolio_id = %(portfolio)s
ORDER BY t.epoch
"""

SUPPRESSED = """
SELECT from_seq, to_seq FROM portfolios_suppression
WHERE portfolio_id = %(portfolio)s ORDER BY from_seq
"""

AUDIT_LOG = """
SELECT e.id, e.kind, n.name AS node, e.data
FROM scheduling_event e LEFT JOIN scheduling_node n ON n.id = e.node_id
WHERE e.portfolio_id = %(portfolio)s AND e.kind = ANY(%(kinds)s)
ORDER BY e.id
"""

ARCHIVED = """
SELECT kind, from_seq, to_seq FROM portfolios_archivedrange
WHERE portfolio_id = %(portfolio)s ORDER BY from_seq
"""


def min_equity_age() -> timedelta:
    """Return the age up to which equity points are kept for certain.

    An hour less than the setting, or a tenth less if that is shorter: no point of this age is
    dropped while the verification reads.
    """
    kept = timedelta(days=settings.GINKGO.keep_equity_days)
    return kept - min(timedelta(hours=1), kept / 10)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of the reference run other than the events, as plain values."""

    fixed: tuple[Any, ...]  #: uid, starting cash, first seq, feed: never change
    tenures: tuple[tuple[Any, ...], ...]  #: (epoch, from_seq, …) of tenures with a commit
    suppressed: tuple[tuple[int, int], ...]
    segments: tuple[tuple[int, int, float], ...]  #: (first seq, time in microseconds, rate)

    def digest(self, seq: int, epoch: int) -> str | None:
        """Return the digest of the inputs of the state that `epoch` made at `seq`.

        None if a later epoch began before `seq`.
        """
        if any(later > epoch and from_seq < seq for later, from_seq, *_ in self.tenures):
            return None
        # A tenure begins with its epoch, a segment with its first seq.
        inputs = [
            self.fixed,
            [tenure for tenure in self.tenures if tenure[0] <= epoch],
            [(first, min(last, seq)) for first, last in self.suppressed if first <= seq],
            # The event at a segment's first seq was released by the previous segment.
            [
                segment
                for place, segment in enumerate(self.segments)
                if place == 0 or segment[0] < seq
            ],
        ]
        text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a verification needs to start."""

    portfolio: int
    name: str
    archived_at: datetime | None  #: when the portfolio was deleted; None: it was not
    taken_at: datetime
    last_seq: int
    recorded: RecordedRun
    history: str | None  #: disagreement between audit log, tenures and run; None: none
    epochs: int  #: so far: the epoch of the run
    handoffs: int  #: that changed owner or revision, up to the last event compared
    inputs: Inputs


class EvidenceRows:
    """The rows of one portfolio, read in one snapshot."""

    def __init__(self, id_or_name: str | int, cursor: psycopg.Cursor[Any]) -> None:
        """Read the portfolio of this id, or the newest of this name. Raise NotFound."""
        named = isinstance(id_or_name, str)
        params = {"name": id_or_name if named else None, "id": None if named else id_or_name}
        found = cursor.execute(PORTFOLIO, params).fetchone()
        if found is None:
            raise NotFound("portfolio", str(id_or_name))
        self.portfolio: Any = found
        where = {"portfolio": found.id, "kinds": list(EVENT_KINDS)}
        self.tenures: list[Any] = cursor.execute(TENURES, where).fetchall()
        self.suppressed: list[Any] = cursor.execute(SUPPRESSED, where).fetchall()
        self.audit_lines: list[Any] = cursor.execute(AUDIT_LOG, where).fetchall()
        archived: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for row in cursor.execute(ARCHIVED, where).fetchall():
            archived[row.kind].append((row.from_seq, row.to_seq))
        self.archived = Archived(
            orders=tuple(archived["portfolios_order"]),
            fills=tuple(archived["portfolios_fill"]),
            equity=tuple(archived["portfolios_equitypoint"]),
        )

    def history_disagreement(self) -> str | None:
        """Return where audit log, tenures and run tell different histories; None if nowhere."""
        run = self.portfolio
        return find_disagreement(
            [AuditLine(row.id, row.kind, row.node, row.data) for row in self.audit_lines],
            [_ownership_period(row) for row in self.tenures],
            CurrentRun(run.epoch, run.node, _text_or_none(run.incarnation), run.revision),
        )


def gather_evidence(id_or_name: str | int, to_seq: int | None = None) -> Evidence:
    """Return the evidence up to `to_seq`, or up to the newest commit.

    Five statements, one snapshot. Raise NotFound; CannotVerify if evidence is missing;
    SnapshotUnavailable if the database does not answer.
    """
    rows = read_evidence_rows(id_or_name)
    portfolio = rows.portfolio
    last = portfolio.last_seq if to_seq is None else to_seq
    feed = _open_feed(portfolio)
    tenure_segments = [
        _tenure_segment(portfolio, tenure) for tenure in rows.tenures if tenure.first_commit_at
    ]
    if not tenure_segments or portfolio.last_seq < portfolio.first_seq:
        raise CannotVerify(
            f"{portfolio.name} cannot be verified: it has committed no event yet; it is"
            f" {portfolio.phase}."
        )
    if not portfolio.first_seq <= last <= portfolio.last_seq:
        raise CannotVerify(
            f"{portfolio.name} cannot be verified up to seq {last}: it has committed seq"
            f" {portfolio.first_seq} to {portfolio.last_seq}; choose one of these."
        )
    return Evidence(
        portfolio=portfolio.id,
        name=portfolio.name,
        archived_at=portfolio.archived_at,
        taken_at=portfolio.taken_at,
        last_seq=portfolio.last_seq,
        recorded=RecordedRun(
            tenure_segments=tenure_segments,
            suppressed=[(row.from_seq, row.to_seq) for row in rows.suppressed],
            segments=[Segment(*segment) for segment in _feed_segments(rows)],
            feed=feed,
            to_seq=last,
            state=bytes(portfolio.state or b"") if last == portfolio.last_seq else None,
            equity_from_us=int((portfolio.taken_at - min_equity_age()).timestamp() * 1e6),
            archived=rows.archived,
        ),
        history=rows.history_disagreement(),
        epochs=portfolio.epoch,
        handoffs=len(_owner_changes(rows, last)),
        inputs=_inputs(rows),
    )


def _feed_segments(rows: EvidenceRows) -> list[tuple[int, int, float]]:
    """Return (first seq, its Unix time in microseconds, rate) of each segment of the feed."""
    return [
        (int(from_seq), int(from_us), float(rate))
        for from_seq, from_us, rate in rows.portfolio.segments
    ]


def _inputs(rows: EvidenceRows) -> Inputs:
    portfolio = rows.portfolio
    return Inputs(
        fixed=(
            str(portfolio.uid), str(portfolio.starting_cash), portfolio.first_seq, portfolio.feed,
            portfolio.feed_sha,
        ),
        tenures=tuple(
            (
                tenure.epoch,
                tenure.from_seq,
                tenure.revision,
                tenure.node,
                tenure.strategy,
                tenure.strategy_version,
                # No member without an artifact: the digests in older anchors stay the same.
                *((tenure.artifact_sha256,) if tenure.artifact_sha256 else ()),
                tenure.config,
                tenure.symbols,
                tenure.limits,
            )
            for tenure in rows.tenures
            if tenure.first_commit_at
        ),
        suppressed=tuple(merge_ranges((row.from_seq, row.to_seq) for row in rows.suppressed)),
        segments=tuple(_feed_segments(rows)),
    )  # fmt: skip


def _open_feed(portfolio: Any) -> Feed:
    """Return the feed that the portfolio traded on.

    Raise CannotVerify if it is not installed, or is installed with other data.
    """
    if portfolio.feed_kind == FeedKind.RECORDED:
        return RecordedFeed(FeedRow.objects.select_related("writer").get(name=portfolio.feed))
    try:
        feed = open_feed(portfolio.feed)
    except UnknownFeed:
        why = f"this release has no feed {portfolio.feed}; verify it under a release that has it"
        raise CannotVerify(f"{portfolio.name} cannot be verified: {why}.") from None
    if feed.sha256 != portfolio.feed_sha:
        raise CannotVerify(
            f"{portfolio.name} cannot be verified: the data of the feed {portfolio.feed} has the"
            f" hash {feed.sha256[:12]}… here, and the fleet traded on {portfolio.feed_sha[:12]}…;"
            " install that data again."
        )
    return feed


def _tenure_segment(portfolio: Any, tenure: Any) -> TenureSegment:
    """Return a tenure with its spec. Raise CannotVerify if its revision no longer exists."""
    if tenure.strategy is None:
        raise CannotVerify(
            f"{portfolio.name} cannot be verified: epoch {tenure.epoch} ran r{tenure.revision},"
            " and that revision no longer exists."
        )
    facts = {**portfolio._asdict(), **tenure._asdict()}
    through = f" (handoff {tenure.handoff_id})" if tenure.handoff_id is not None else ""
    end = "on" if tenure.to_seq is None else f"to {tenure.to_seq}"
    return TenureSegment(
        first_seq=tenure.from_seq + 1,
        spec=msgspec.convert(spec_of(SimpleNamespace(**facts)), Spec),
        epoch=tenure.epoch,
        owner=tenure.node or "",
        python=tenure.python,
        where=(
            f"epoch {tenure.epoch} on {tenure.node}, r{tenure.revision} by {tenure.cause}{through},"
            f" from seq {tenure.from_seq + 1} {end}"
        ),
    )


def _ownership_period(row: Any) -> OwnershipPeriod:
    return OwnershipPeriod(
        epoch=row.epoch, node=row.node, incarnation=_text_or_none(row.incarnation),
        revision=row.revision, from_seq=row.from_seq, to_seq=row.to_seq, cause=row.cause,
        handoff=row.handoff_id,
    )  # fmt: skip


def _owner_changes(rows: EvidenceRows, last: int) -> set[int]:
    """Return the ids of the handoffs that the audit log records up to seq `last`."""
    return {
        row.data["handoff"]
        for row in rows.audit_lines
        if row.data.get("handoff") is not None and row.data.get("from_seq", 0) <= last
    }


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def read_evidence_rows(id_or_name: str | int) -> EvidenceRows:
    """Return a portfolio with its tenures, suppressed decisions, audit lines and archived ranges.

    All are of one snapshot. Raise NotFound or SnapshotUnavailable.
    """
    with repeatable_read("the portfolio") as cursor:
        return EvidenceRows(id_or_name, cursor)
