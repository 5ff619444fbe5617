"""The kinds of records: their tables, partition columns and retention times."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from django.conf import settings

DAY_S = 86_400
ORDERS = "portfolios_order"
#: Partitions per retention time. The query plan of a commit contains each partition of the orders
#: (docs/retention.md has the cost), and up to one partition more than requested is kept.
ORDER_PARTS, EQUITY_PARTS = 24, 6


@dataclass(frozen=True, slots=True)
class RecordKind:
    """One partitioned table."""

    table: str
    seq: str  #: the column that partitions it
    at: str  #: the column with the time of a row
    order_by: str  #: row order in an archive, by a unique key
    keep_s: float  #: rows younger than this are never dropped
    period_s: float  #: feed time per partition
    verified: bool  #: verifications need the rows after the newest anchor


def record_kinds() -> tuple[RecordKind, ...]:
    """Return the kinds with the settings of this installation.

    Fills come before their orders, so that none is stored without its order.
    """
    orders_s = settings.GINKGO.keep_orders_days * DAY_S
    equity_s = settings.GINKGO.keep_equity_days * DAY_S
    traded = partial(RecordKind, keep_s=orders_s, period_s=orders_s / ORDER_PARTS, verified=True)
    measured = partial(
        RecordKind, keep_s=equity_s, period_s=equity_s / EQUITY_PARTS, verified=False
    )
    return (
        traded("portfolios_fill", "fill_seq", "at", "portfolio_id, fill_seq, index"),
        traded("portfolios_order", "seq", "committed_at", "portfolio_id, seq, index"),
        measured("portfolios_equitypoint", "seq", "at", "portfolio_id, seq"),
        measured("portfolios_metricpoint", "seq", "at", "portfolio_id, seq, name"),
    )
