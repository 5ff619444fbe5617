"""Ask for a verification: the worker runs it, and its row says how far it is."""

from __future__ import annotations

from django.db import transaction

from scheduling.db.transaction import execute
from scheduling.errors import Refused
from scheduling.models import OPEN_STATES, Verification
from scheduling.operations.lookup import present
from scheduling.verification.queue import request_verification


def verify(name: str, *, actor: str, full: bool = False) -> Verification:
    """Ask for a verification of the portfolio as of its newest commit. It runs on meanwhile.

    The replay begins at the newest anchor that holds; with `full` at the first event.
    """
    from django_q.tasks import async_task  # a model of its own, so not before the apps are ready

    portfolio = present(name)
    with transaction.atomic():
        asked = execute(request_verification(portfolio.pk, actor, full=full))
        if asked is not None:
            # In the same transaction: the queue is a table of this database.
            async_task("scheduling.tasks.verify", task_name=f"verify {name}")
            return Verification.objects.get(pk=asked)
    busy = Verification.objects.filter(portfolio=portfolio, state__in=OPEN_STATES).first()
    raise Refused(
        "verification_in_progress",
        f"{name} is being verified already; wait for its verdict.",
        verification=None if busy is None else busy.pk,
    )
