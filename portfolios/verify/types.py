"""Value types of a verification: the recorded run, the stored rows, the outcome."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from portfolios.feeds.base import Feed
from portfolios.feeds.clock import Segment
from portfolios.runtime.results import EquityRow, FillRow, OrderEndRow, OrderRow
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import Processed

Kind = Literal["fill", "equity", "order", "state", "replay"]

#: The order in which the engine handles these kinds at one event.
RANK: dict[str, int] = {"replay": 0, "fill": 1, "equity": 2, "order": 3, "state": 4}


class CannotVerify(Exception):
    """Evidence is missing, so that the run cannot be verified. The text names it and the cause."""


@dataclass(frozen=True, slots=True)
class TenureSegment:
    """One tenure: the portfolio ran under `spec` from `first_seq` until the next tenure begins."""

    first_seq: int
    spec: Spec
    epoch: int
    owner: str  #: the node that its stored orders name
    where: str  #: for people: "epoch 4 on node-2, r1 by migrate (handoff 17), from seq 121 to 380"
    python: str = ""  #: minor version that computed it; empty: not known


Ranges = tuple[tuple[int, int], ...]  #: of seqs: (first, last)


@dataclass(frozen=True, slots=True)
class Archived:
    """The rows of the portfolio that are archived, as ranges of seqs, both ends included."""

    orders: Ranges = ()
    fills: Ranges = ()
    equity: Ranges = ()

    def has(self, kind: Literal["orders", "fills", "equity"], seq: int) -> bool:
        """Return whether the rows of a kind at `seq` are archived."""
        ranges: Ranges = getattr(self, kind)
        return any(first <= seq <= last for first, last in ranges)

    def last(self, kind: Literal["orders", "fills", "equity"]) -> int:
        """Return the newest seq of which rows are archived, 0 if there is none."""
        ranges: Ranges = getattr(self, kind)
        return max((last for _, last in ranges), default=0)


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """The record of a run as of one commit: its inputs, and the state it ended in."""

    tenure_segments: Sequence[TenureSegment]  #: in order, from the portfolio's first event on
    suppressed: Sequence[tuple[int, int]]  #: ranges of seqs, both ends included, in order
    segments: Sequence[Segment]  #: of the feed, by which events get their release times
    feed: Feed
    to_seq: int  #: compare up to and including this event
    state: bytes | None  #: as stored, the state after `to_seq`; None: not kept for that seq
    equity_from_us: int = 0  #: older equity points may have been dropped
    archived: Archived = Archived()

    @property
    def first_seq(self) -> int:
        """Return the seq of the portfolio's first event."""
        return self.tenure_segments[0].spec.first_seq

    def at(self, seq: int) -> TenureSegment:
        """Return the tenure of event `seq`: the last one that begins at or before it."""
        after = bisect_right(self.tenure_segments, seq, key=lambda tenure: tenure.first_seq)
        return self.tenure_segments[max(after - 1, 0)]


class OrderOutcome(NamedTuple):
    """The status of an order as of the last event compared, and how it ended."""

    status: str  #: open, filled, cancelled, expired, suppressed, refused
    ended_seq: int | None = None  #: of one that was cancelled or expired
    reason: str = ""  #: of that end


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """An order as stored, with its recorded origin."""

    id: str
    row: OrderRow
    outcome: OrderOutcome
    epoch: int
    node: str
    revision: int


@dataclass(frozen=True, slots=True)
class StoredFill:
    """A fill as stored."""

    order_id: str
    row: FillRow
    epoch: int


@dataclass(frozen=True, slots=True)
class ProducedRows:
    """The rows that a run produced in (from_seq, to_seq]."""

    orders: list[OrderRow] = field(default_factory=list)
    fills: list[FillRow] = field(default_factory=list)
    equity: list[EquityRow] = field(default_factory=list)
    ended: list[OrderEndRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StoredRows:
    """The stored rows of (from_seq, to_seq], each list in event order."""

    orders: list[StoredOrder]
    fills: list[StoredFill]
    equity: list[EquityRow]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference between the stored output and the reference run."""

    seq: int
    kind: Kind
    what: str  #: such as "order 0 at seq 412 (buy 10 KO)"
    field: str
    found: str  #: as stored
    wanted: str  #: in the reference run
    where: str  #: the tenure of the event, for people

    def sentence(self) -> str:
        """Return one line for people."""
        return (
            f"{self.what}: {self.field} is {self.found}, the reference run has {self.wanted};"
            f" {self.where}"
        )


@dataclass(slots=True)
class Counts:
    """The numbers of events and rows that a comparison covered."""

    events: int = 0  #: processed by the replay
    orders: int = 0
    fills: int = 0
    equity: int = 0
    equity_dropped: int = 0  #: points no longer stored, by age
    rows_dropped: int = 0  #: orders and fills no longer stored


@dataclass(frozen=True, slots=True)
class Anchor:
    """A point where a comparison ended identical, with what the next one needs to continue."""

    seq: int
    epoch: int  #: of the last tenure, whose spec made the state
    state: bytes  #: of the replay, after `seq`
    counts: Counts  #: from the first event on
    open_orders: tuple[tuple[int, int], ...]  #: (seq, index), in order


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """The outcome of a verification. `difference` None: identical."""

    difference: Difference | None
    counts: Counts
    from_seq: int
    to_seq: int
    state_digest: str | None  #: sha256 of the unpacked state's bytes; None: not compared
    processed: Processed | None = None  #: as recorded; None: not recorded, or not compared
    replayed_from: int = 0  #: first replayed event; equals from_seq if all were
    replayed: int = 0  #: number of replayed events
    anchor: Anchor | None = None  #: None: not identical
