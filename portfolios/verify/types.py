"""What is compared: the stretches of the recorded run, what was stored, and what differs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from portfolios.feeds.base import Feed
from portfolios.feeds.clock import Segment
from portfolios.runtime.results import EquityRow, FillRow, OrderRow
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import Processed

Kind = Literal["fill", "equity", "order", "state", "replay"]

#: Of what happens at one event, in the order in which the engine does it.
RANK: dict[str, int] = {"replay": 0, "fill": 1, "equity": 2, "order": 3, "state": 4}


class CannotVerify(Exception):
    """Evidence is missing: nothing can be said about the run. The text says what and why."""


@dataclass(frozen=True, slots=True)
class TenureSegment:
    """From `first_seq` on, until the next stretch begins, the portfolio ran under `spec`."""

    first_seq: int
    spec: Spec
    epoch: int
    owner: str  #: what its stored orders name as their node
    where: str  #: for people: "epoch 4, migrate to node-2 (handoff 17), seq 121–380"
    python: str = ""  #: minor version that computed it; empty: not known


@dataclass(frozen=True, slots=True)
class KeptFrom:
    """The first seq of which each kind of row is still stored; older rows are archived. 0: all."""

    orders: int = 0
    fills: int = 0
    equity: int = 0


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """What is known of a run as of one commit: its inputs, and the state it ended in."""

    stretches: Sequence[TenureSegment]  #: in order; the first begins at the portfolio's first event
    suppressed: Sequence[tuple[int, int]]  #: ranges of seqs, both ends included, in order
    segments: Sequence[Segment]
    feed: Feed
    to_seq: int  #: compare up to and including this event
    state: bytes | None  #: as stored, the state after `to_seq`; None: not kept for that seq
    equity_from_us: int = 0  #: equity points of before may have been dropped by their age
    kept_from: KeptFrom = KeptFrom()

    @property
    def first_seq(self) -> int:
        """Return the portfolio's first event."""
        return self.stretches[0].spec.first_seq

    def at(self, seq: int) -> TenureSegment:
        """Return the stretch that ran event `seq`: the last that begins at or before it."""
        after = bisect_right(self.stretches, seq, key=lambda stretch: stretch.first_seq)
        return self.stretches[max(after - 1, 0)]


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """An order as it is stored, and who is said to have made it."""

    id: str
    row: OrderRow
    status: str  #: as of the event compared to: open, filled, suppressed, refused
    epoch: int
    node: str
    revision: int


@dataclass(frozen=True, slots=True)
class StoredFill:
    """A fill as it is stored."""

    order_id: str
    row: FillRow
    epoch: int


@dataclass(frozen=True, slots=True)
class ProducedRows:
    """What a run produced in (from_seq, to_seq]: by the replay or as it is stored."""

    orders: list[OrderRow] = field(default_factory=list)
    fills: list[FillRow] = field(default_factory=list)
    equity: list[EquityRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StoredRows:
    """What is stored of (from_seq, to_seq], each list in the order of its events."""

    orders: list[StoredOrder]
    fills: list[StoredFill]
    equity: list[EquityRow]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing in which the fleet's record and the uninterrupted run disagree."""

    seq: int
    kind: Kind
    what: str  #: "order 0 at seq 412 (buy 10 KO)"
    field: str
    found: str  #: in the fleet's record
    wanted: str  #: in the uninterrupted run
    where: str  #: which stretch of the recorded run it lies in

    def sentence(self) -> str:
        """Return one line for people."""
        return (
            f"{self.what}: {self.field} is {self.found}, the uninterrupted run has {self.wanted};"
            f" {self.where}"
        )


@dataclass(slots=True)
class Counts:
    """Over how much the comparison went."""

    events: int = 0  #: that the replay processed
    orders: int = 0
    fills: int = 0
    equity: int = 0
    equity_dropped: int = 0  #: points that were no longer kept, by their age
    rows_dropped: int = 0  #: orders and fills that were no longer kept


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where a comparison ended without a difference, with what the next one needs to go on."""

    seq: int
    epoch: int  #: of the stretch that ran last; its spec has made the state
    state: bytes  #: of the replay, after `seq`
    counts: Counts  #: from the first event on
    open_orders: tuple[tuple[int, int], ...]  #: (seq, index), in order


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """The outcome. `difference` None: identical."""

    difference: Difference | None
    counts: Counts
    from_seq: int
    to_seq: int
    state_digest: str | None  #: sha256 of the unpacked state's bytes; None: it was not compared
    processed: Processed | None = None  #: as recorded; None: not recorded, or not compared
    replayed_from: int = 0  #: the first event that was replayed now; from_seq: all of them
    replayed: int = 0  #: events that were replayed now
    anchor: Anchor | None = None  #: None: it did not end identical


def number(value: Decimal) -> str:
    """Return a quantity or an amount for people, without an exponent."""
    return f"{value:f}"
