"""The log of a portfolio, as pages, API and commands read it."""

from __future__ import annotations

from dataclasses import dataclass

from scheduling.models import LogLine, PortfolioLog

MOST_LINES = 2_000  #: of one answer


@dataclass(frozen=True, slots=True)
class LogView:
    """Lines of one log, oldest first, and what is known of the whole log."""

    last: int  #: number of the newest line; 0: nothing was printed yet
    lost: int  #: lines that were printed and lost, ever
    results: list[LogLine]


def read_log(portfolio: int, after: int | None = None, limit: int = 100) -> LogView:
    """Return the first `limit` lines after number `after`; None: the last lines. Two statements."""
    head = PortfolioLog.objects.filter(pk=portfolio).first()
    lines = LogLine.objects.filter(portfolio_id=portfolio)
    if after is None:
        found = list(lines.order_by("-no")[:limit])[::-1]
    else:
        found = list(lines.filter(no__gt=after).order_by("no")[:limit])
    if head is None:
        return LogView(0, 0, found)
    return LogView(head.last_no, head.lost, found)
