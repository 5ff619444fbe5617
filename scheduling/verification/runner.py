"""The process that works off what waits. The worker starts it, and it dies with the worker.

A process of its own, since a verification may take longer than the worker lets a task take, and
since passes must not wait behind it.
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
NICE_LEVEL = 10  #: nice value of a runner: nodes may live on the same machine


class VerificationAbandoned(Exception):
    """Somebody ended this verification because it was not heard of."""


def start_runner() -> int:
    """Start the process and return its pid. It ends when nothing waits any more."""
    command = [sys.executable, str(CHECKOUT / "manage.py"), "run_verifications"]
    command += ["--parent", str(os.getpid())]
    return subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL).pid


def run_waiting() -> int:
    """Run what waits, one after the other, until nothing does. Return how many it were."""
    runner, done = uuid4(), 0
    while (row := execute(claim(runner, max_parallel()))) is not None:
        run_one(row.id, row.portfolio, runner, full=row.full, limit_s=row.limit_s)
        done += 1
    return done


def max_parallel() -> int:
    """Return how many verifications run in parallel, each by a runner of its own: one for each
    processor of this machine. They yield to whatever else wants it (`NICE_LEVEL`)."""
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
    """Run one that was claimed, and write what came of it, whatever that is."""
    said_at = 0.0

    def told(first: int, at: int, last: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= PROGRESS_INTERVAL_S:
            said_at = time.monotonic()
            if not execute(record_progress(verification, runner, first, at, last)):
                raise VerificationAbandoned

    try:
        verdict = verify_portfolio(portfolio, progress=told, full=full, limit_s=limit_s)
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
