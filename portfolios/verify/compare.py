"""Compare the stored rows of a window of events with those of the reference run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from portfolios.runtime.refusals import forget_refusal, remember_refusal
from portfolios.runtime.results import EquityRow, FillRow, OrderEndRow, OrderRow
from portfolios.verify.types import (
    RANK,
    Counts,
    Difference,
    Kind,
    OrderOutcome,
    ProducedRows,
    RecordedRun,
    StoredFill,
    StoredOrder,
    StoredRows,
)

FILLED = OrderOutcome("filled")
#: Statuses of an order that was placed.
PLACED = ("open", "filled", "cancelled", "expired")

W = TypeVar("W")
F = TypeVar("F")
Key = tuple[int, int]
Row = OrderRow | StoredOrder | FillRow | StoredFill | EquityRow


class FieldDifference(NamedTuple):
    """One field of one row that differs; `Difference` adds the tenure that the event lies in."""

    seq: int
    kind: Kind
    what: str  #: the row, such as "order 0 at seq 12 (…)"
    field: str
    found: str
    wanted: str


class Comparison:
    """Compares stored rows with those of the reference run, one window of events at a time.

    Between windows, only orders that wait for their fill or end are kept in memory.
    """

    def __init__(
        self,
        recorded: RecordedRun,
        counts: Counts,
        waiting: Mapping[Key, OrderOutcome] | None = None,
        new_since: int | None = None,
        refusals: Mapping[str, str] | None = None,
    ) -> None:
        """Begin before the first event, or at an anchor with what it has kept.

        `waiting` are the stored outcomes of the orders that were open there, by (seq, index), and
        `refusals` the last recorded ones, as in `Account.refusals`. Rows before `new_since` may be
        of a version that recorded every refusal; None: all rows may.
        """
        self._recorded, self._counts = recorded, counts
        self._new_since = new_since
        self._refusals = dict(refusals or {})
        self._uid = recorded.tenure_segments[0].spec.uid
        self._outcomes = dict(waiting or {})  # of each open order, as it is stored

    @property
    def open_orders(self) -> tuple[Key, ...]:
        """Return the orders that wait for their fill or end, as (seq, index)."""
        return tuple(sorted(self._outcomes))

    def compare(self, wanted: ProducedRows, found: StoredRows) -> Difference | None:
        """Return the first difference in event order, or None."""
        differences = [  # orders first: fills and ends are compared with their stored outcomes
            *islice(self._compare_orders(wanted.orders, found.orders), 1),
            *islice(self._compare_fills(wanted.fills, found.fills), 1),
            *islice(self._compare_ends(wanted.ended), 1),
            *islice(self._compare_equity(wanted.equity, found.equity), 1),
        ]
        if not differences:
            return None
        return self._with_tenure(min(differences, key=lambda d: (d.seq, RANK[d.kind])))

    def compare_waiting(self) -> Difference | None:
        """Return the first order stored as filled or ended that still waits in the run, or None."""
        for (seq, index), outcome in sorted(self._outcomes.items()):
            if outcome.status != "open":
                what = f"order {index} at seq {seq}"
                return self._with_tenure(
                    FieldDifference(seq, "order", what, "status", outcome.status, "open")
                )
        return None

    def _with_tenure(self, found: FieldDifference) -> Difference:
        """Return the difference with the tenure of its event."""
        return Difference(*found, where=self._recorded.at(found.seq).where)

    # --- orders ------------------------------------------------------------------------------

    def _compare_orders(
        self, wanted: Sequence[OrderRow], found: Sequence[StoredOrder]
    ) -> Iterator[FieldDifference]:
        """Yield the differences of orders.

        Remember the stored outcome of each order that is open in the reference run: its fill is
        compared with it later.
        """
        without_repeats = [order for order in found if not self._is_repeated_refusal(order)]
        for key, order, stored in pair_by_key(
            wanted, lambda o: (o.seq, o.index), without_repeats, lambda o: (o.row.seq, o.row.index)
        ):
            seq, index = key
            if order is None or stored is None:
                if order is not None and self._recorded.archived.has("orders", seq):
                    self._counts.rows_dropped += 1
                    continue
                yield _row_on_one_side("order", seq, index, order, stored)
                continue
            self._counts.orders += 1
            tenure = self._recorded.at(seq)
            waits = order.status == "open"  # until its fill, which sets its status
            if waits:
                self._outcomes[key] = stored.outcome
            status = stored.outcome.status
            # The row has the order's last status already. In the reference run the order stays open
            # until a later event, so any status of a placed order is right here.
            expected = status if waits and status in PLACED else order.status
            fields = [
                ("status", status, expected),
                ("id", stored.id, f"{self._uid}-{seq}-{index}"),
                *_field_pairs(stored.row, order, "symbol", "side", "quantity", "price"),
                *_field_pairs(
                    stored.row, order, "kind", "limit_price", "stop_price", "time_in_force", "tag"
                ),
                ("reason", stored.row.reason or "", order.reason or ""),
                ("decided_at", stored.row.decided_us, order.decided_us),
                ("epoch", stored.epoch, tenure.epoch),
                ("node", stored.node, tenure.owner),
                ("revision", stored.revision, tenure.spec.revision),
            ]
            yield from _field_differences(
                "order", seq, f"order {index} at seq {seq} ({_describe(order)})", fields
            )

    def _is_repeated_refusal(self, order: StoredOrder) -> bool:
        """Return whether this is a repeated refusal, which only rows before `_new_since` may be.

        Called for each order in turn: it remembers refusals, and forgets them after an order.
        """
        row = order.row
        if self._new_since is not None and row.seq >= self._new_since:
            return False
        if order.outcome.status == "refused":
            return not remember_refusal(self._refusals, row.symbol, row.side, row.reason or "")
        if order.outcome.status != "suppressed":
            forget_refusal(self._refusals, row.symbol, row.side)
        return False

    # --- fills -------------------------------------------------------------------------------

    def _compare_fills(
        self, wanted: Sequence[FillRow], found: Sequence[StoredFill]
    ) -> Iterator[FieldDifference]:
        """Yield the differences of fills, and their orders that are not stored as filled."""
        for (seq, index), fill, stored in pair_by_key(
            wanted, lambda f: (f.fill_seq, f.index), found, lambda f: (f.row.fill_seq, f.row.index)
        ):
            if fill is None or stored is None:
                if fill is not None and self._recorded.archived.has("fills", seq):
                    self._counts.rows_dropped += 1
                    self._outcomes.pop((fill.order_seq, fill.order_index), None)
                    continue
                yield _row_on_one_side("fill", seq, index, fill, stored)
                continue
            self._counts.fills += 1
            order = (fill.order_seq, fill.order_index)
            fields = [
                ("order", stored.order_id, f"{self._uid}-{order[0]}-{order[1]}"),
                *_field_pairs(stored.row, fill, "symbol", "side", "quantity", "price", "fee"),
                ("at", stored.row.at_us, fill.at_us),
                ("epoch", stored.epoch, self._recorded.at(seq).epoch),
            ]
            yield from _field_differences(
                "fill", seq, f"fill {index} at seq {seq} ({_describe(fill)})", fields
            )
            status = self._outcomes.pop(order, FILLED).status  # no outcome: its row is archived
            if status != "filled":
                what = f"order {order[1]} at seq {order[0]}"
                yield FieldDifference(seq, "fill", what, "status after its fill", status, "filled")

    # --- ends of orders ----------------------------------------------------------------------

    def _compare_ends(self, wanted: Sequence[OrderEndRow]) -> Iterator[FieldDifference]:
        """Yield the differences between ends in the run and the stored outcomes of the orders."""
        for end in wanted:
            key = (end.order_seq, end.order_index)
            found = self._outcomes.pop(key, None)
            if found is None:  # its row is archived
                continue
            fields = [
                ("status", found.status, end.status),
                ("ended_seq", found.ended_seq, end.seq),
                ("reason", found.reason, end.reason),
            ]
            what = f"end of order {key[1]} at seq {key[0]}"
            # Of the kind "fill", which also says what became of an order.
            yield from _field_differences("fill", end.seq, what, fields)

    # --- equity ------------------------------------------------------------------------------

    def _compare_equity(
        self, wanted: Sequence[EquityRow], found: Sequence[EquityRow]
    ) -> Iterator[FieldDifference]:
        """Yield the differences of equity points, except for those that are no longer stored."""
        for (seq, _), point, stored in pair_by_key(  # a point has no index
            wanted, lambda e: (e.seq, 0), found, lambda e: (e.seq, 0)
        ):
            if point is None or stored is None:
                if point is not None and (
                    point.at_us < self._recorded.equity_from_us
                    or self._recorded.archived.has("equity", seq)
                ):
                    self._counts.equity_dropped += 1
                    continue
                yield _row_on_one_side("equity", seq, None, point, stored)
                continue
            self._counts.equity += 1
            fields = [("at", stored.at_us, point.at_us), *_field_pairs(stored, point, "equity")]
            yield from _field_differences("equity", seq, f"equity point at seq {seq}", fields)


def pair_by_key(
    wanted: Sequence[W],
    key_of_wanted: Callable[[W], Key],
    found: Sequence[F],
    key_of_found: Callable[[F], Key],
) -> Iterator[tuple[Key, W | None, F | None]]:
    """Yield (key, wanted row, found row) in the order of the keys; None where a side has no row.

    Both sides come in that order.
    """
    wanted_rows, found_rows = iter(wanted), iter(found)
    want, have = next(wanted_rows, None), next(found_rows, None)
    while want is not None or have is not None:
        want_key = key_of_wanted(want) if want is not None else None
        have_key = key_of_found(have) if have is not None else None
        if have_key is None or (want_key is not None and want_key < have_key):
            assert want_key is not None
            yield want_key, want, None
            want = next(wanted_rows, None)
        elif want_key is None or have_key < want_key:
            yield have_key, None, have
            have = next(found_rows, None)
        else:
            yield want_key, want, have
            want, have = next(wanted_rows, None), next(found_rows, None)


def _field_pairs(found: Any, wanted: Any, *names: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, value in `found`, value in `wanted`) of each field."""
    return ((name, getattr(found, name), getattr(wanted, name)) for name in names)


def _field_differences(
    kind: Kind, seq: int, what: str, fields: Sequence[tuple[str, Any, Any]]
) -> Iterator[FieldDifference]:
    """Yield a difference for each (name, found, wanted) of `fields` whose values differ."""
    for name, found, wanted in fields:
        if found != wanted:
            yield FieldDifference(seq, kind, what, name, _as_text(found), _as_text(wanted))


def _row_on_one_side(
    kind: Kind, seq: int, index: int | None, wanted: Row | None, found: Row | None
) -> FieldDifference:
    """Return the difference of a row that one side lacks."""
    what = f"{kind} {'point' if index is None else index} at seq {seq}"
    there = "missing" if found is None else _describe(found)
    return FieldDifference(
        seq, kind, what, "row", there, "none" if wanted is None else _describe(wanted)
    )


def _as_text(value: Any) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value) or '""'


def _describe(row: Row) -> str:
    """Return a row in words: `buy 10 KO at 60.1, open`."""
    match row:
        case StoredOrder():
            return f"{_describe(row.row)}, epoch {row.epoch}"
        case StoredFill():
            return _describe(row.row)
        case EquityRow():
            return f"{row.equity:f}"
    text = f"{row.side} {row.quantity:f} {row.symbol} at {row.price:f}"
    return f"{text}, {row.status}" if isinstance(row, OrderRow) else text
