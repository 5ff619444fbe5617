"""Faults of PostgreSQL: restarted, killed, frozen, kept down, with a shifted clock."""

from __future__ import annotations

import signal

from chaos.faults.fault import Fault, titled
from chaos.harness.processes import still_running
from chaos.runner.fault_context import BUDGET_FACTOR, RESTART_LIMIT_S, FaultContext

DOWN = "the database is down"


def _end_server(context: FaultContext, number: signal.Signals) -> None:
    """End PostgreSQL by a signal, and expect that the launcher starts it again."""
    context.mark_all_affected(DOWN)
    server = context.cluster.postgres_processes()[0]
    server.send_signal(number)
    context.expect(
        lambda: not still_running([server]), 15 * BUDGET_FACTOR, "the end of the old server"
    )
    _expect_database_back(context)


restart_database = titled(
    "PostgreSQL is stopped in order and restarted.", _end_server, signal.SIGINT
)
kill_database = titled(
    "kill -9 of PostgreSQL, which recovers from its WAL.", _end_server, signal.SIGKILL
)


def _expect_database_back(context: FaultContext) -> None:
    context.expect(context.cluster.now, RESTART_LIMIT_S, "the database back")
    context.expect(context.cluster.is_ready, RESTART_LIMIT_S, "the API back")


def database_away(context: FaultContext) -> None:
    """PostgreSQL is down for three leases."""
    context.mark_all_affected(DOWN)
    with context.kept_down(context.cluster.postgres_processes()[:1]):
        context.sleep(context.ttl_s * 90 / 30)
    _expect_database_back(context)


def freeze_database(context: FaultContext) -> None:
    """SIGSTOP of PostgreSQL for longer than a lease; connections stay open."""
    context.mark_all_affected(DOWN)
    with context.suspended(context.cluster.postgres_processes()):
        context.sleep(context.ttl_s * 40 / 30)
    _expect_database_back(context)


#: Budget from the database's first answer to a commit of every portfolio.
COMMITS_WITHIN_S = 5.0


def silent_database_host(context: FaultContext) -> None:
    """The database accepts connections but never answers, until every statement limit is over."""
    context.mark_all_affected(DOWN)
    before = positions_of_owned(context)
    with context.suspended(context.cluster.postgres_processes()):
        # The kernel still accepts connections, so new ones hang as well. By the end every pending
        # statement has been given up, also those of pages and of the watcher.
        context.expect(lambda: not context.cluster.is_ready(), 12 * BUDGET_FACTOR, "no readiness")
        context.sleep(12)
    context.expect(context.cluster.now, RESTART_LIMIT_S, "the database back")
    context.expect(
        lambda: have_committed(context, before),
        COMMITS_WITHIN_S * BUDGET_FACTOR,
        "commits of every portfolio that ran",
    )
    context.expect(context.cluster.is_ready, RESTART_LIMIT_S, "the API back")


def positions_of_owned(context: FaultContext) -> dict[str, int]:
    """Return name → last seq of every owned portfolio."""
    return {run.name: run.last_seq for run in context.cluster.runs().values() if run.node}


def have_committed(context: FaultContext, before: dict[str, int]) -> bool:
    """Whether each portfolio is beyond its seq in `before`, or has no owner any more."""
    now = positions_of_owned(context)
    return all(now.get(name, seq + 1) > seq for name, seq in before.items())


def outage_and_catch_up(context: FaultContext) -> None:
    """No commit is possible for 40 s; then every portfolio catches up."""
    context.mark_all_affected(DOWN)
    with context.suspended(context.cluster.postgres_processes()):
        context.sleep(40)
    _expect_database_back(context)


#: Owned portfolios that are beyond the head of their feed.
_AHEAD = """
SELECT p.name FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
CROSS JOIN LATERAL (
    SELECT from_seq + extract(epoch FROM clock_timestamp() - from_time) * rate AS seq
    FROM portfolios_feedsegment s WHERE s.feed_id = p.feed_id ORDER BY s.id DESC LIMIT 1
) head
WHERE r.node_id IS NOT NULL AND r.last_seq > head.seq + 1
"""


def _jump_clock(context: FaultContext, seconds: float) -> None:
    """Shift the database's clock for a lease, and wait until the head has caught up."""
    context.mark_all_affected("the feed's time jumps with the clock")
    context.disregard_pauses()
    with context.cluster.clock_jump(seconds):
        context.sleep(context.ttl_s)
    # Portfolios that followed the shifted clock are ahead of the head for a minute and wait for it.
    # Nodes notice the restored clock only some heartbeats later, so a commit proves nothing yet.
    context.expect(
        lambda: context.cluster.query(_AHEAD) == [],
        abs(seconds) + context.ttl_s + 20,
        "the head at the seq of every portfolio",
    )


clock_forward = titled(
    "The database's clock jumps a minute forward and back again.", _jump_clock, 60
)
clock_back = titled("The database's clock jumps a minute back and forward again.", _jump_clock, -60)

FAULTS = (
    Fault("restart-database", restart_database, 6, moves_nothing=True, alone=True),
    Fault("kill-database", kill_database, 6, moves_nothing=True, alone=True),
    Fault("database-away", database_away, 22, moves_nothing=True, alone=True),
    Fault("freeze-database", freeze_database, 10, moves_nothing=True, alone=True),
    Fault("silent-database-host", silent_database_host, 20, moves_nothing=True, alone=True),
    Fault("outage", outage_and_catch_up, 45, moves_nothing=True, alone=True),
    Fault("clock-forward", clock_forward, 8, moves_nothing=True, alone=True),
    Fault("clock-back", clock_back, 8, moves_nothing=True, alone=True),
)
