"""Requests of handoffs in one batch, as a pass makes them."""

from __future__ import annotations

from typing import Any

from portfolios.models import Portfolio
from scheduling.db.transaction import execute
from scheduling.enact.handoff import Request, request_all
from scheduling.errors import Refused
from scheduling.timing import timing
from tests.support.factories import FakeNode, make_portfolio


def waiting(*names: str, **given: Any) -> list[Portfolio]:
    """Return new portfolios of these names, which have no owner."""
    return [make_portfolio(name, **given) for name in names]


def placed(portfolio: Portfolio, node: FakeNode, **given: Any) -> Request:
    """Return the request to place a portfolio on a node."""
    return Request("place", portfolio.pk, node.row.pk, "asked", **given)


def ask(*asked: Request, patient: bool = True) -> list[Any]:
    """Make these requests in one batch. Return for each the id of its handoff, or a refusal's code.

    None: the run was locked and the batch not `patient`, or the portfolio was deleted.
    """
    answers = execute(request_all(asked, actor="test", timing=timing(), patient=patient))
    return [
        answer.code if isinstance(answer, Refused) else getattr(answer, "id", None)
        for answer in answers
    ]
