"""Orders of the whole fleet, by the time of their commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Q, QuerySet

from portfolios.models import Order

#: Without a start, a list looks back this far: orders are kept for months, and a filter that
#: nothing matches would read all of them.
WINDOW = timedelta(hours=24)
STATUSES = ("open", "filled", "cancelled", "expired", "suppressed", "refused")
#: Statuses of orders that were not placed, each with a reason.
UNPLACED = ("refused", "suppressed")
#: The most orders that are counted, so that counting a busy day takes a bounded time.
MAX_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class OrderCounts:
    """How many orders of a range have each status."""

    by_status: Mapping[str, int]
    is_all: bool  #: False: only the newest MAX_COUNTED orders were counted, and there may be more


def orders_between(
    since: datetime | None, until: datetime | None, now: datetime
) -> QuerySet[Order]:
    """Return the orders committed from `since` to `until`, newest first, with their portfolios.

    `until` is excluded. Without `since`, the range begins WINDOW before `until`; without both,
    WINDOW before `now`.
    """
    start = since or _window_start(until or now)
    rows = Order.objects.select_related("portfolio").filter(committed_at__gte=start)
    if until is not None:
        rows = rows.filter(committed_at__lt=until)
    return rows.order_by("-committed_at", "-id")


def _window_start(end: datetime) -> datetime:
    try:
        return end - WINDOW
    except OverflowError:  # in the first hours of the year 1
        return datetime.min.replace(tzinfo=UTC)


def filter_orders(rows: QuerySet[Order], filters: Mapping[str, str]) -> QuerySet[Order]:
    """Return the orders that match all `filters`: portfolio, node, symbol, side, status.

    An empty filter matches all. The status `unplaced` stands for refused and suppressed.
    """
    if filters.get("portfolio"):
        rows = rows.filter(portfolio__name=filters["portfolio"])
    for name in ("node", "symbol", "side"):
        if filters.get(name):
            rows = rows.filter(**{name: filters[name]})
    if filters.get("status") == "unplaced":
        return rows.filter(status__in=UNPLACED)
    return rows.filter(status=filters["status"]) if filters.get("status") else rows


def count_by_status(rows: QuerySet[Order]) -> OrderCounts:
    """Count the newest MAX_COUNTED of these orders by status. One statement."""
    wanted = {status: Count("id", filter=Q(status=status)) for status in STATUSES}
    found = rows[:MAX_COUNTED].aggregate(**wanted)
    return OrderCounts(found, sum(found.values()) < MAX_COUNTED)


#: (time of the commit, id) of the order after which a page starts.
Key = tuple[datetime, str]


def list_key(order: Order) -> Key:
    """Return the key of an order's place in the list, for `orders_after`."""
    return order.committed_at, order.pk


def orders_after(rows: QuerySet[Order], key: Key) -> QuerySet[Order]:
    """Return the orders that follow `key` in the list; those of one commit in the order of ids."""
    at, last = key
    older = Q(committed_at__lt=at) | Q(committed_at=at, id__lt=last)
    return rows.filter(older, committed_at__lte=at)  # the second condition uses the index
