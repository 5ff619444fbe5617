"""Find portfolios by name, and record an operator's request in the audit log."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from portfolios.models import Portfolio
from scheduling.db.transaction import Transaction
from scheduling.enact.audit_log import audit
from scheduling.enact.notify import notify_watchers
from scheduling.errors import NotFound

Found = TypeVar("Found", bound=Model)


def existing(what: str, name: str, rows: QuerySet[Found]) -> Found:
    """Return the first row, or raise NotFound, which says that there is no `what` named `name`."""
    found = rows.first()
    if found is None:
        raise NotFound(what, name)
    return found


def existing_portfolio(name: str) -> Portfolio:
    """Return the portfolio of this name that is not deleted, or raise NotFound."""
    return existing("portfolio", name, Portfolio.objects.present().filter(name=name))


def locked_portfolio(name: str) -> Portfolio:
    """Return the portfolio, its row locked against concurrent changes but not against commits.

    Raise NotFound if no portfolio has this name, or only deleted ones.
    """
    present = Portfolio.objects.present().filter(name=name)
    return existing("portfolio", name, present.select_for_update(no_key=True))


def record_request(
    kind: str, portfolio: int, actor: str, reason: str, **data: Any
) -> Transaction[None]:
    """Write a line to the audit log and wake the watchers."""
    yield from audit(kind, portfolio=portfolio, actor=actor, reason=reason, **data)
    yield from notify_watchers()
