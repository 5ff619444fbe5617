"""Request a verification. The worker runs it; its row holds the progress."""

from __future__ import annotations

from django.db import transaction

from portfolios.sentences import sentence as _
from scheduling.db.transaction import execute
from scheduling.errors import Refused
from scheduling.models import OPEN_STATES, Verification
from scheduling.operations.lookup import existing_portfolio
from scheduling.verification.queue import request_verification


def verify(name: str, *, actor: str, full: bool = False) -> Verification:
    """Request a verification of the portfolio up to its newest commit, and return its row.

    The portfolio runs on. The replay begins at the newest valid anchor, or with `full` at the first
    event. Raise NotFound, or Refused if a verification of it waits or runs.
    """
    from django_q.tasks import async_task  # it loads models, so the apps must be ready

    portfolio = existing_portfolio(name)
    with transaction.atomic():
        verification_id = execute(request_verification(portfolio.pk, actor, full=full))
        if verification_id is not None:
            # In the same transaction, since the queue is a table of this database.
            async_task("scheduling.tasks.verify", task_name=f"verify {name}")
            return Verification.objects.get(pk=verification_id)
    busy = Verification.objects.filter(portfolio=portfolio, state__in=OPEN_STATES).first()
    raise Refused(
        "verification_in_progress",
        _("{name} is already being verified; wait for the result.", name=name),
        verification=None if busy is None else busy.pk,
    )
