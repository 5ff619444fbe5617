"""Locks that somebody holds: a transaction that is frozen, an index that is being built."""

from __future__ import annotations

import sys

import psycopg

from chaos.faults.control_plane import another_process
from chaos.faults.fault import Fault
from chaos.runner.fault_context import PATIENCE, FaultContext
from ginkgo_site.env import embedded_url

#: Between the last statement of a move's request and its COMMIT: the run, the handoff and the rows
#: of both nodes are locked.
FROZEN_AT = "requests.migrate:after_touch=pause(30)"
#: A frozen transaction loses its session after 1.5 s; the rest is for a busy machine.
FREED_WITHIN_S = 1.5 + 3.0

_HELD = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction'
  AND state_change < clock_timestamp() - make_interval(secs => %s)
"""


def held_transaction(scene: FaultContext) -> None:
    """A command of the control plane freezes before COMMIT, with the rows of two nodes locked."""
    run = scene.portfolio()
    target = scene.target_for(run)
    argv = [sys.executable, "manage.py", "migrate_portfolio", run.name, "--to", target]
    armed = {"GINKGO_REHEARSAL": "1", "GINKGO_FAILPOINTS": FROZEN_AT}
    with another_process(scene, argv, armed):
        if not scene.expect(
            lambda: scene.fleet.query(_HELD, 0.5), 30 * PATIENCE, "a transaction that is frozen"
        ):
            return
        scene.expect(
            lambda: not scene.fleet.query(_HELD, 0.5), FREED_WITHIN_S * PATIENCE, "its end"
        )
        scene.sleep(2)
    handoffs = scene.fleet.query(
        "SELECT h.id FROM scheduling_handoff h JOIN portfolios_portfolio p ON p.id = h.portfolio_id"
        " WHERE p.name = %s AND h.state IN ('requested', 'preparing', 'draining', 'activating')",
        run.name,
    )
    scene.expect(lambda: not handoffs, 0, f"nothing begun by what was not committed: {handoffs}")


def lock_on_record_table(scene: FaultContext) -> None:
    """A record table is locked as CREATE INDEX does: no commit gets through, all else does."""
    scene.touch_everything("no commit gets through")
    run = scene.portfolio()
    target = scene.target_for(run)
    with psycopg.connect(embedded_url(scene.fleet.home)) as indexing:
        indexing.execute("LOCK TABLE portfolios_order IN SHARE MODE")
        handoff = scene.migrate(run, target)
        scene.sleep(20)  # longer than a new owner may take to its first commit
        indexing.rollback()
    scene.expect_end(handoff, 30 * PATIENCE)
    scene.expect(
        lambda: scene.fleet.runs()[run.name].phase == "running", 30 * PATIENCE, f"{run.name} runs"
    )


FAULTS = (
    Fault("held-transaction", held_transaction, 10, moves_nothing=True),
    Fault("lock-on-record-table", lock_on_record_table, 25, alone=True),
)
