"""Portfolios by the name a person gave, and the line that tells of a request."""

from __future__ import annotations

from typing import Any

from portfolios.models import (
    Portfolio,
)
from scheduling.db.transaction import Transaction
from scheduling.enact.audit_log import audit
from scheduling.enact.notify import notify_watchers
from scheduling.errors import NotFound


def present(name: str) -> Portfolio:
    found = Portfolio.objects.present().filter(name=name).first()
    if found is None:
        raise NotFound("portfolio", name)
    return found


def locked(name: str) -> Portfolio:
    """Lock the portfolio's row against another person's change; commits only read its key."""
    found = Portfolio.objects.present().select_for_update(no_key=True).filter(name=name).first()
    if found is None:
        raise NotFound("portfolio", name)
    return found


def record_request(
    kind: str, portfolio: int, actor: str, reason: str, **data: Any
) -> Transaction[None]:
    yield from audit(kind, portfolio=portfolio, actor=actor, reason=reason, **data)
    yield from notify_watchers()
