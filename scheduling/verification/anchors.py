"""Where a verification can begin: the anchors of earlier ones, as far as their evidence holds.

An anchor is as good as the evidence before it. Its inputs are compared by a digest; the rows before
it by sums over ranges, one for each pair of neighbouring anchors. The first range that differs
makes all anchors behind it invalid, and the verification begins before that range: if a row was
changed, it is found there. Ranges of which rows were archived are not looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from portfolios.feeds.clock import head_at
from portfolios.verify.stored_rows import StoredRowsReader
from portfolios.verify.sums import RangeSums, RowSum, sum_rows
from portfolios.verify.types import Anchor, Counts, StoredRows
from scheduling.db.transaction import django_cursor, execute
from scheduling.enact.verification_anchors import keep_anchor
from scheduling.verification.evidence import Evidence

#: Without the states: of these only one is needed.
ANCHORS = """
SELECT id, seq, epoch, at, counts, open_orders, inputs, sums
FROM scheduling_verificationanchor
WHERE portfolio_id = %(portfolio)s AND seq <= %(to_seq)s
ORDER BY seq, epoch
"""

STATE = "SELECT state FROM scheduling_verificationanchor WHERE id = %(id)s"

KINDS = ("orders", "fills", "equity")


@dataclass(frozen=True, slots=True)
class StartPoint:
    """Where a verification begins, and what is known of the rows before its end."""

    anchor: Anchor | None  #: None: at the first event
    verified_at: datetime | None  #: when the anchor was
    archived: bool  #: asked for from the first event, and orders or fills before are archived
    changed: tuple[int, datetime] | None  #: seq and time of an anchor whose evidence changed since
    invalid: tuple[int, ...]  #: ids of the anchors that do not hold
    base_seq: int  #: the newest anchor that holds, or the seq before the first event
    base: RangeSums  #: as recorded, up to there


@dataclass(slots=True)
class _Chain:
    """The anchors that hold, oldest first, and those that do not."""

    holding: list[Any]
    invalid: list[Any]


def find_start(evidence: Evidence, *, full: bool, alive: Callable[[], None]) -> StartPoint:
    """Return where to begin: the newest anchor that holds, with `full` the first event.

    One statement, and three for every million events before the newest anchor.
    """
    recorded = evidence.recorded
    with django_cursor() as cursor:
        rows: list[Any] = cursor.execute(
            ANCHORS, {"portfolio": evidence.portfolio, "to_seq": recorded.to_seq}
        ).fetchall()
    chain = _check_anchors(evidence, rows, alive)
    newest = chain.holding[-1] if chain.holding else None
    chosen = newest
    gone_to = max(recorded.kept_from.orders, recorded.kept_from.fills) - 1
    archived = full and gone_to >= recorded.first_seq
    if full:
        # The oldest behind what was archived: its rows cannot be compared any more.
        behind = [row for row in chain.holding if row.seq >= gone_to]
        chosen = behind[0] if archived and behind else None
    return StartPoint(
        anchor=None if chosen is None else _anchor(chosen),
        verified_at=None if chosen is None else chosen.at,
        archived=archived,
        changed=(chain.invalid[0].seq, chain.invalid[0].at) if chain.invalid else None,
        invalid=tuple(row.id for row in chain.invalid),
        base_seq=recorded.first_seq - 1 if newest is None else newest.seq,
        base=RangeSums() if newest is None else _sums(newest.sums),
    )


def _check_anchors(evidence: Evidence, rows: Sequence[Any], alive: Callable[[], None]) -> _Chain:
    chain = _Chain([], [])
    before_seq, before = evidence.recorded.first_seq - 1, RangeSums()
    waiting: frozenset[tuple[int, int]] = frozenset()
    kept = _kept_from(evidence)
    for place, row in enumerate(rows):
        stated = _sums(row.sums)
        found = sum_rows(evidence.portfolio, before_seq, row.seq, alive)
        waiting |= found.open_orders
        holds = (
            row.inputs == evidence.inputs.digest(row.seq, row.epoch)
            and waiting <= {(seq, index) for seq, index in row.open_orders}
            and all(
                getattr(before, kind) + getattr(found, kind) == getattr(stated, kind)
                for kind in KINDS
                if before_seq + 1 >= kept[kind]
            )
        )
        if not holds:
            chain.invalid = list(rows[place:])
            break
        chain.holding.append(row)
        before_seq, before = row.seq, stated
    return chain


def _kept_from(evidence: Evidence) -> dict[str, int]:
    """Return from which seq on all rows of each kind are stored."""
    recorded = evidence.recorded
    kept = asdict(recorded.kept_from)
    dropped_by_age = head_at(recorded.segments, recorded.equity_from_us)
    kept["equity"] = max(kept["equity"], dropped_by_age + 1)
    return kept


class SummedRows:
    """What is stored, and the sums over it as far as it was read.

    The sums of a window are taken before its rows are read: a row that is changed before it is
    compared is found now, and one that is changed later by the next verification.
    """

    def __init__(self, stored: StoredRowsReader, portfolio: int, begun: StartPoint) -> None:
        """Go on from the sums of the newest anchor that holds."""
        self._stored, self._portfolio = stored, portfolio
        self.seq, self.reached = begun.base_seq, begun.base

    def rows(self, from_seq: int, to_seq: int) -> StoredRows:
        """Return what is stored of (from_seq, to_seq]; windows come in their order."""
        if to_seq > self.seq:
            self.reached += sum_rows(self._portfolio, self.seq, to_seq)
            self.seq = to_seq
        return self._stored.rows(from_seq, to_seq)

    def statuses(self, orders: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], str]:
        """Return the statuses of those that are stored among these orders."""
        return self._stored.statuses(orders)


def store_anchor(evidence: Evidence, begun: StartPoint, anchor: Anchor, read: SummedRows) -> None:
    """Store where a verification ended, for the next one. Four statements."""
    inputs = evidence.inputs.digest(anchor.seq, anchor.epoch)
    if inputs is None or anchor.seq != read.seq:
        return
    execute(
        keep_anchor(
            evidence.portfolio,
            begun.invalid,
            seq=anchor.seq,
            epoch=anchor.epoch,
            state=anchor.state,
            counts=asdict(anchor.counts),
            open_orders=[list(key) for key in anchor.open_orders],
            inputs=inputs,
            sums={kind: list(_pair(getattr(read.reached, kind))) for kind in KINDS},
        )
    )


def _pair(total: RowSum) -> tuple[int, str]:
    return total.rows, str(total.total)  # as text: JSON has no whole numbers of 64 bits


def _sums(document: dict[str, Any]) -> RangeSums:
    orders, fills, equity = (RowSum(int(document[k][0]), int(document[k][1])) for k in KINDS)
    return RangeSums(orders, fills, equity)


def _anchor(row: Any) -> Anchor:
    with django_cursor() as cursor:
        found: Any = cursor.execute(STATE, {"id": row.id}).fetchone()
    return Anchor(
        seq=row.seq,
        epoch=row.epoch,
        state=bytes(found.state),
        counts=Counts(**row.counts),
        open_orders=tuple((seq, index) for seq, index in row.open_orders),
    )
