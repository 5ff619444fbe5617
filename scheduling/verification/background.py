"""Scheduled verifications: short ones at an interval, so that nobody has to ask for a check."""

from __future__ import annotations

from django.conf import settings

from scheduling.db.transaction import execute
from scheduling.verification.queue import request_due
from scheduling.verification.runner import start_runner

#: Time limit of one verification. A portfolio that needs longer continues with its next one.
LIMIT_S = 60.0
#: Verifications requested at once; the schedule does so every five minutes.
MAX_AT_ONCE = 20


def request_due_verifications() -> int:
    """Request the due verifications, start a runner for them, and return their number.

    0 if GINKGO_VERIFY_INTERVAL_S is 0.
    """
    every_s = settings.GINKGO.verify_interval_s
    if every_s == 0:
        return 0
    requested = execute(request_due(every_s, LIMIT_S, MAX_AT_ONCE))
    if requested:
        start_runner()
    return requested
