"""Verifications by schedule: what is new since the last one stays little, and a difference is found
without anybody having asked."""

from __future__ import annotations

from django.conf import settings

from scheduling.db.transaction import execute
from scheduling.verification.queue import request_due
from scheduling.verification.runner import start_runner

#: The longest one of them replays. A portfolio that needs more goes on the next time.
LIMIT_S = 60.0
#: In one pass; a pass comes every five minutes.
MAX_PER_PASS = 20


def request_due_verifications() -> int:
    """Ask for what is due, start a runner for it, and return how many it were."""
    every_s = settings.GINKGO.verify_interval_s
    if every_s == 0:
        return 0
    asked = execute(request_due(every_s, LIMIT_S, MAX_PER_PASS))
    if asked:
        start_runner()
    return asked
