"""Start points of verifications: anchors of earlier ones whose evidence is unchanged.

An anchor is valid as long as the evidence before it is unchanged. Its inputs are compared by a
digest, the rows before it by sums, one range for each pair of neighbouring anchors. The first range
that differs invalidates all later anchors, and the verification starts before that range, where it
finds the changed row. Ranges with archived rows are not compared again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from portfolios.feeds.clock import head_at
from portfolios.verify.stored_rows import StoredRowsReader
from portfolios.verify.sums import RangeSums, RowSum, sum_rows
from portfolios.verify.types import Anchor, Counts, OrderOutcome, StoredRows
from scheduling.db.transaction import django_cursor, execute
from scheduling.enact.verification_anchors import keep_anchor
from scheduling.verification.evidence import Evidence
from scheduling.verification.recorded_feed import RecordedFeed

#: The states are left out: only that of the chosen anchor is needed, and STATE reads it.
ANCHORS = """
SELECT id, seq, epoch, at, counts, open_orders, inputs, sums
FROM scheduling_verificationanchor
WHERE portfolio_id = %(portfolio)s AND seq <= %(to_seq)s
ORDER BY seq, epoch
"""

STATE = "SELECT state FROM scheduling_verificationanchor WHERE id = %(id)s"

#: The fields of RangeSums: a sum for each kind of row, and `ends` for how and when orders ended.
KINDS = ("orders", "fills", "equity", "ends")


@dataclass(frozen=True, slots=True)
class StartPoint:
    """The start of a verification, and the checksums of the rows before it."""

    anchor: Anchor | None  #: None: start at the first event
    verified_at: datetime | None  #: time of the anchor
    archived: bool  #: whether this is a full verification, but some orders or fills are archived
    changed: tuple[int, datetime] | None  #: seq and time of the first invalid anchor; None: none
    invalid: tuple[int, ...]  #: ids of the invalid anchors
    base_seq: int  #: seq of the newest valid anchor, or the seq before the first event
    base: RangeSums  #: sums of the rows up to `base_seq`, as the newest valid anchor stores them


@dataclass(slots=True)
class _Chain:
    """Rows of ANCHORS, oldest first: those of valid anchors, and all from the first invalid one."""

    valid: list[Any]
    invalid: list[Any]


def find_start(evidence: Evidence, *, full: bool, report_alive: Callable[[], None]) -> StartPoint:
    """Return the start: the newest valid anchor. With `full`, or if none is valid, the first event.

    Where orders or fills are archived, `full` starts at the oldest valid anchor after them, if any.
    `report_alive` is called repeatedly: it may report that the search goes on. Two statements, and
    four for each begun million events between two anchors.
    """
    recorded = evidence.recorded
    with django_cursor() as cursor:
        rows: list[Any] = cursor.execute(
            ANCHORS, {"portfolio": evidence.portfolio, "to_seq": recorded.to_seq}
        ).fetchall()
    chain = _split_by_validity(evidence, rows, report_alive)
    newest = chain.valid[-1] if chain.valid else None
    chosen = newest
    archived_to = max(recorded.archived.last("orders"), recorded.archived.last("fills"))
    archived = full and archived_to >= recorded.first_seq
    if full:
        # Archived rows cannot be compared: start at the oldest anchor after them, if any.
        after_archived = [row for row in chain.valid if row.seq >= archived_to]
        chosen = after_archived[0] if archived and after_archived else None
    return StartPoint(
        anchor=None if chosen is None else _read_anchor(chosen),
        verified_at=None if chosen is None else chosen.at,
        archived=archived,
        changed=(chain.invalid[0].seq, chain.invalid[0].at) if chain.invalid else None,
        invalid=tuple(row.id for row in chain.invalid),
        # The sums for the next anchor go on from `newest`, wherever the replay starts: the rows up
        # to it were just compared.
        base_seq=recorded.first_seq - 1 if newest is None else newest.seq,
        base=RangeSums() if newest is None else _stored_sums(newest.sums),
    )


def _split_by_validity(
    evidence: Evidence, rows: Sequence[Any], report_alive: Callable[[], None]
) -> _Chain:
    """Compare each anchor with the evidence, oldest first, up to the first that differs."""
    chain = _Chain([], [])
    before_seq, before = evidence.recorded.first_seq - 1, RangeSums()  # of the anchor before
    open_orders: frozenset[tuple[int, int]] = frozenset()
    kept = _kept_from(evidence)
    for place, row in enumerate(rows):
        stored = _stored_sums(row.sums)
        found = sum_rows(evidence.portfolio, before_seq, row.seq, report_alive)
        open_orders |= found.open_orders
        sums_equal = all(
            getattr(before, kind) + getattr(found, kind) == getattr(stored, kind)
            for kind in KINDS
            if kept[kind] <= before_seq + 1  # all rows of the range are still stored
        )
        inputs_equal = row.inputs == evidence.inputs.digest(row.seq, row.epoch)
        # An order decided before the anchor and open now must have been open at the anchor.
        were_open = open_orders <= {(seq, index) for seq, index in row.open_orders}
        if not (sums_equal and inputs_equal and were_open):
            chain.invalid = list(rows[place:])
            break
        chain.valid.append(row)
        before_seq, before = row.seq, stored
    return chain


def _kept_from(evidence: Evidence) -> dict[str, int]:
    """Return, for each checksum of KINDS, the first seq from which all its rows are stored."""
    recorded = evidence.recorded
    archived = recorded.archived
    kept = {kind: archived.last(kind) + 1 for kind in ("orders", "fills", "equity")}
    if isinstance(recorded.feed, RecordedFeed):
        dropped_to = recorded.feed.released_to(recorded.equity_from_us)
    else:
        dropped_to = head_at(recorded.segments, recorded.equity_from_us)
    kept["equity"] = max(kept["equity"], dropped_to + 1)
    # An order that was archived may have ended at any later event.
    is_complete = kept["orders"] <= recorded.first_seq
    kept["ends"] = recorded.first_seq if is_complete else recorded.to_seq + 1
    return kept


class SummedRows:
    """Read the stored rows for the comparison, and sum them up for the next anchor.

    A window is summed up before its rows are read: a row that is changed before the comparison is
    found by this verification, one that is changed later by the next.
    """

    def __init__(self, stored: StoredRowsReader, portfolio: int, start: StartPoint) -> None:
        """Continue from the sums of the newest valid anchor: `sums` cover the rows up to `seq`."""
        self._stored, self._portfolio = stored, portfolio
        self.seq, self.sums = start.base_seq, start.base

    def rows(self, from_seq: int, to_seq: int) -> StoredRows:
        """Return the stored rows of (from_seq, to_seq]. Windows must be read in order."""
        if to_seq > self.seq:
            self.sums += sum_rows(self._portfolio, self.seq, to_seq)
            self.seq = to_seq
        return self._stored.rows(from_seq, to_seq)

    def outcomes(self, orders: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], OrderOutcome]:
        """See `StoredRowsReader.outcomes`."""
        return self._stored.outcomes(orders)


def store_anchor(evidence: Evidence, start: StartPoint, anchor: Anchor, summed: SummedRows) -> None:
    """Store the end of a verification as an anchor for the next one, in place of invalid anchors.

    Nothing is stored if `summed` ends at another seq than the anchor, or if a later epoch began
    before it.
    """
    inputs = evidence.inputs.digest(anchor.seq, anchor.epoch)  # None: a later epoch began
    if inputs is None or anchor.seq != summed.seq:
        return
    execute(
        keep_anchor(
            evidence.portfolio,
            start.invalid, seq=anchor.seq, epoch=anchor.epoch, state=anchor.state,
            counts=asdict(anchor.counts), open_orders=[list(key) for key in anchor.open_orders],
            inputs=inputs,
            sums={kind: list(_as_json(getattr(summed.sums, kind))) for kind in KINDS},
        )
    )  # fmt: skip


def _as_json(row_sum: RowSum) -> tuple[int, str]:
    # The total is a text, since many readers of JSON round integers above 2^53.
    return row_sum.rows, str(row_sum.total)


def _stored_sums(document: dict[str, Any]) -> RangeSums:
    """Return the sums that an anchor stores. Older versions stored none for ends of orders."""
    pairs = (document.get(kind, (0, "0")) for kind in KINDS)
    orders, fills, equity, ends = (RowSum(int(rows), int(total)) for rows, total in pairs)
    return RangeSums(orders, fills, equity, ends)


def _read_anchor(row: Any) -> Anchor:
    """Return the anchor of a row of ANCHORS, with its state. One statement."""
    with django_cursor() as cursor:
        found: Any = cursor.execute(STATE, {"id": row.id}).fetchone()
    return Anchor(
        seq=row.seq,
        epoch=row.epoch,
        state=bytes(found.state),
        counts=Counts(**row.counts),
        open_orders=tuple((seq, index) for seq, index in row.open_orders),
    )
