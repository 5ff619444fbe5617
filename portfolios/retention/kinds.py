"""The kinds of records: their tables, what partitions them, and how long each is kept."""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86_400
#: Partitions that the time for which a kind is kept is divided into. A commit's plan names each
#: partition of the orders (docs/retention.md has what that costs), and up to one part more than
#: asked for is kept.
ORDER_PARTS, EQUITY_PARTS = 24, 6


@dataclass(frozen=True, slots=True)
class RecordKind:
    """One partitioned table."""

    table: str
    seq: str  #: the column that partitions it
    at: str  #: the column that says how old a row is
    order_by: str  #: the order of the rows in an archive, by a key that is unique
    keep_s: float  #: rows younger than this are never dropped
    period_s: float  #: of feed time in one partition
    verified: bool  #: a verification needs the rows behind its newest anchor


def record_kinds() -> tuple[RecordKind, ...]:
    """Return the kinds as this installation keeps them. Fills before the orders they refer to."""
    from django.conf import settings

    orders_s = settings.GINKGO.keep_orders_days * DAY_S
    equity_s = settings.GINKGO.keep_equity_days * DAY_S
    return (
        RecordKind(
            table="portfolios_fill",
            seq="fill_seq",
            at="at",
            order_by="portfolio_id, fill_seq, index",
            keep_s=orders_s,
            period_s=orders_s / ORDER_PARTS,
            verified=True,
        ),
        RecordKind(
            table="portfolios_order",
            seq="seq",
            at="committed_at",
            order_by="portfolio_id, seq, index",
            keep_s=orders_s,
            period_s=orders_s / ORDER_PARTS,
            verified=True,
        ),
        RecordKind(
            table="portfolios_equitypoint",
            seq="seq",
            at="at",
            order_by="portfolio_id, seq",
            keep_s=equity_s,
            period_s=equity_s / EQUITY_PARTS,
            verified=False,
        ),
    )
