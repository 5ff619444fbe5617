"""The process that runs waiting verifications. The queue worker starts it; it dies with the worker.

It is a separate process because a verification may take longer than the time limit of a task, and
because passes must not wait for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from uuid import UUID, uuid4

from rest_framework.utils.encoders import JSONEncoder

from ginkgo_site.env import CHECKOUT
from scheduling.db.transaction import execute
from scheduling.errors import Refused
from scheduling.verification.queue import claim, finish, record_progress
from scheduling.verification.verify import verify_portfolio

PROGRESS_INTERVAL_S = 0.5
NICE_LEVEL = 10  #: nice value of a runner: it yields to nodes on the same machine


class VerificationAbandoned(Exception):
    """Another process ended the verification, since it had reported no progress for too long."""


def start_runner() -> int:
    """Start a process that runs the waiting verifications and then exits. Return its pid."""
    command = [sys.executable, str(CHECKOUT / "manage.py"), "run_verifications"]
    command += ["--parent", str(os.getpid())]
    return subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL).pid


def run_waiting() -> int:
    """Run the waiting verifications one after the other. Return their number."""
    runner, done = uuid4(), 0
    while (row := execute(claim(runner, max_parallel()))) is not None:
        run_one(row.id, row.portfolio, runner, full=row.full, limit_s=row.limit_s)
        done += 1
    return done


def max_parallel() -> int:
    """Return how many verifications may run at once, each in its own process: one per processor."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1


def run_one(
    verification: int,
    portfolio: int,
    runner: UUID,
    *,
    full: bool = False,
    limit_s: float | None = None,
) -> None:
    """Run a claimed verification, and store its outcome, even a failure.

    An error other than Refused is raised again once it is stored. Nothing is stored if another
    process has ended the verification as abandoned.
    """
    reported_at = 0.0

    def report_progress(first: int, at: int, last: int) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at >= PROGRESS_INTERVAL_S:
            reported_at = time.monotonic()
            if not execute(record_progress(verification, runner, first, at, last)):
                raise VerificationAbandoned

    try:
        verdict = verify_portfolio(portfolio, progress=report_progress, full=full, limit_s=limit_s)
    except VerificationAbandoned:
        return
    except Refused as refused:
        execute(finish(verification, runner, "failed", refused.message, {}))
    except Exception as error:
        execute(finish(verification, runner, "failed", f"{type(error).__name__}: {error}", {}))
        raise
    else:
        document = verdict.document()
        plain = json.loads(json.dumps(document, cls=JSONEncoder))
        execute(finish(verification, runner, document["state"], document["sentence"], plain))
