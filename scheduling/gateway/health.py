"""Readiness of this gateway, judged by its own recent work.

Two probes run in the background, one over each pool: the pulse, and a write that is durable only
once disk and synchronous standby have it, as for a commit. A readiness request reads their results,
so it is answered at once, also while the database is silent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg
from psycopg_pool import PoolTimeout

from ginkgo_site.deadline import ServerSilent
from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query
from scheduling.gateway.commit_path import COMMIT_PATH
from scheduling.gateway.disk_space import DISK_SPACE

#: A probe that has not succeeded for longer makes the process not ready. A statement that gets no
#: answer is given up after 3 s, so less would tell of one slow statement.
MAX_AGE_S = 5.0
WRITE_TEST_INTERVAL_S = 2.0

#: Needs no table and takes no lock: a record in the write-ahead log, flushed as a commit's is.
WRITE_TEST = Statement("WRITE_TEST", "SELECT pg_logical_emit_message(true, 'ginkgo', 'write test')")


def write_test() -> Transaction[None]:
    """Write something that has to become durable."""
    yield from query(WRITE_TEST)


@dataclass(slots=True)
class Probe:
    """One kind of work: when it last succeeded, and why not since."""

    name: str
    succeeded_at: float | None = None
    error: str = ""

    def succeed(self) -> None:
        self.succeeded_at, self.error = time.monotonic(), ""

    def fail(self, error: Exception) -> None:
        self.error = _cause(error)

    def problem(self) -> str:
        """Return what is wrong as a sentence, or an empty text."""
        cause = self.error or "no answer yet"
        if self.succeeded_at is None:
            return f"The gateway's {self.name} has not succeeded yet: {cause}."
        age_s = time.monotonic() - self.succeeded_at
        if age_s <= MAX_AGE_S:
            return ""
        return (
            f"The gateway's {self.name} has not succeeded for {age_s:.1f} s, "
            f"limit {MAX_AGE_S:g} s: {cause}."
        )


class Health:
    """The probes of one process; `is_open` while the gateway runs in it."""

    def __init__(self) -> None:
        self.open(False)

    def open(self, is_open: bool = True) -> None:
        """Begin anew, with nothing known."""
        self.is_open = is_open
        self.pulse = Probe("pulse")
        self.write = Probe("durable write test")

    def problem(self) -> str:
        """Return why this gateway is not ready, or an empty text."""
        if not self.is_open:
            return "The gateway is not open in this process: run it with --lifespan on."
        probes = self.pulse.problem() or self.write.problem()
        return probes or DISK_SPACE.problem() or _commit_problem()


def _commit_problem() -> str:
    blocked_s = COMMIT_PATH.blocked_s()
    if blocked_s is None or blocked_s <= MAX_AGE_S:
        return ""
    return f"No commit got through this gateway for {blocked_s:.1f} s, limit {MAX_AGE_S:g} s."


#: Of this process.
HEALTH = Health()


def _cause(error: Exception) -> str:
    """Return the cause without addresses: the answer is read by strangers too."""
    if isinstance(error, ServerSilent):
        return "the database does not answer"
    if isinstance(error, PoolTimeout):
        return "no connection became free"
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary.rstrip(".")
    return "no connection to the database"
