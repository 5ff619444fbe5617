"""Held locks: a frozen transaction, and a locked record table."""

from __future__ import annotations

import sys

import psycopg

from chaos.faults.control_plane import AnotherProcess
from chaos.faults.fault import Fault
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext

#: Between the last statement of a migrate request and its COMMIT: the run, the handoff and the rows
#: of both nodes are locked.
FROZEN_AT = "operations.migrate:after_touch=pause(30)"
#: A frozen transaction loses its session after 1.5 s; the rest is for a busy machine.
FREED_WITHIN_S = 1.5 + 3.0

#: Sessions that have been idle in a transaction for some seconds.
_HELD = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction'
  AND state_change < clock_timestamp() - make_interval(secs => %s)
"""


def held_transaction(context: FaultContext) -> None:
    """A command freezes before COMMIT, with the rows of two nodes locked."""
    run = context.choose_portfolio()
    target = context.choose_target(run)
    argv = [sys.executable, "manage.py", "migrate_portfolio", run.name, "--to", target]
    armed = {"GINKGO_REHEARSAL": "1", "GINKGO_FAILPOINTS": FROZEN_AT}
    with AnotherProcess(context, argv, armed):
        if not context.expect(
            lambda: context.cluster.query(_HELD, 0.5), 30 * BUDGET_FACTOR, "a frozen transaction"
        ):
            return
        context.expect(
            lambda: not context.cluster.query(_HELD, 0.5), FREED_WITHIN_S * BUDGET_FACTOR, "its end"
        )
        context.sleep(2)
    handoffs = context.cluster.query(
        "SELECT h.id FROM scheduling_handoff h JOIN portfolios_portfolio p ON p.id = h.portfolio_id"
        " WHERE p.name = %s AND h.state IN ('requested', 'preparing', 'draining', 'activating')",
        run.name,
    )
    context.expect(lambda: not handoffs, 0, f"no handoff from the uncommitted request: {handoffs}")


def lock_on_record_table(context: FaultContext) -> None:
    """A record table is locked as by CREATE INDEX; only commits are blocked."""
    context.mark_all_affected("commits are blocked")
    run = context.choose_portfolio()
    target = context.choose_target(run)
    with psycopg.connect(context.cluster.admin_url) as indexing:
        indexing.execute("LOCK TABLE portfolios_order IN SHARE MODE")
        handoff = context.migrate(run, target)
        context.sleep(20)  # longer than a new owner may take to its first commit
        indexing.rollback()
    context.expect_handoff_end(handoff, 30 * BUDGET_FACTOR)
    context.expect(
        lambda: context.cluster.runs()[run.name].phase == "running",
        30 * BUDGET_FACTOR,
        f"{run.name} runs",
    )


FAULTS = (
    Fault("held-transaction", held_transaction, 10, moves_nothing=True),
    Fault("lock-on-record-table", lock_on_record_table, 25, alone=True),
)
