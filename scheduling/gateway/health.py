"""Readiness of this gateway, judged by its own recent work.

Two probes run in the background, one over each pool: the liveness write, and a test write that is
durable only once disk and synchronous standby have it, as for a commit. A readiness request reads
their results, so it is answered at once even if the database does not answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg
from psycopg_pool import PoolTimeout

from ginkgo_site.deadline import ServerSilent
from scheduling.db.disk_space import DISK_SPACE
from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query
from scheduling.gateway.commit_health import COMMIT_HEALTH

#: A probe without success for longer makes the process not ready. A statement without an answer is
#: given up after 3 s, so a lower limit would report a single slow statement.
MAX_AGE_S = 5.0
WRITE_TEST_INTERVAL_S = 2.0
#: After a failure: how long a probe waits for a connection, and how long until it asks again. Only
#: the probes ask then: a process that is not ready gets no requests, and a pool opens a connection
#: only for one who asks.
RETRY_LIMIT_S = 1.0
RETRY_INTERVAL_S = 0.5
#: A process that was frozen needs at most this long to read what had waited in its sockets.
READ_BACKLOG_S = 1.0

#: Needs no table and no lock: a record in the write-ahead log, flushed as that of a commit.
WRITE_TEST = Statement("WRITE_TEST", "SELECT pg_logical_emit_message(true, 'ginkgo', 'write test')")


def write_test() -> Transaction[None]:
    """Write a record that has to become durable."""
    yield from query(WRITE_TEST)


@dataclass(slots=True)
class Probe:
    """One kind of work: the time of its last success, and the error since."""

    name: str
    succeeded_at: float | None = None  #: monotonic; None: never yet
    error: str = ""  #: "": none since

    def succeed(self) -> None:
        self.succeeded_at, self.error = time.monotonic(), ""

    def fail(self, error: Exception) -> None:
        self.error = _cause(error)

    @property
    def wait_s(self) -> float | None:
        """Seconds to wait for a connection: few after a failure; None: as the pool allows."""
        return RETRY_LIMIT_S if self.error else None

    @property
    def is_overdue(self) -> bool:
        """Whether the last success is over MAX_AGE_S ago; False before the first one."""
        at = self.succeeded_at
        return at is not None and time.monotonic() - at > MAX_AGE_S

    def problem(self) -> str:
        """Return a sentence if the last success is over MAX_AGE_S ago or missing, else ""."""
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
    """The probes of this process, and whether the gateway runs in it (`is_open`)."""

    def __init__(self) -> None:
        self.set_open(False)

    def set_open(self, is_open: bool) -> None:
        """Record whether the gateway runs in this process, and reset the probes."""
        self.is_open = is_open
        self.woke_at: float | None = None  #: monotonic time at which the last gap of pulses ended
        self.liveness = Probe("liveness write")
        self.write = Probe("durable write test")

    def record_pulse(self, gap_s: float) -> None:
        """Note a liveness write, and whether more than `gap_s` passed since the one before."""
        before = self.liveness.succeeded_at
        self.liveness.succeed()
        if before is not None and time.monotonic() - before > gap_s:
            self.woke_at = time.monotonic()

    def was_frozen(self, gap_s: float) -> bool:
        """Return whether requests that are read now may have waited over `gap_s` in a socket."""
        now, pulsed_at = time.monotonic(), self.liveness.succeeded_at
        if not self.is_open or pulsed_at is None:
            return False
        just_woke = self.woke_at is not None and now - self.woke_at < READ_BACKLOG_S
        return just_woke or now - pulsed_at > gap_s

    def problem(self) -> str:
        """Return why this gateway is not ready, or an empty text."""
        if not self.is_open:
            return "The gateway is not open in this process: run it with --lifespan on."
        probes = self.liveness.problem() or self.write.problem()
        return probes or DISK_SPACE.problem() or _commit_problem()


def _commit_problem() -> str:
    blocked_s = COMMIT_HEALTH.blocked_s()
    if blocked_s is None or blocked_s <= MAX_AGE_S:
        return ""
    return f"No commit of this gateway succeeded for {blocked_s:.1f} s, limit {MAX_AGE_S:g} s."


#: The probes of this process.
HEALTH = Health()


def _cause(error: Exception) -> str:
    """Return the cause of a failure without addresses: readiness is public."""
    if isinstance(error, ServerSilent):
        return "the database does not answer"
    if isinstance(error, PoolTimeout):
        return "no connection became available"
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary.rstrip(".")
    return "no connection to the database"
