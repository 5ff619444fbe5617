"""Faults of pushes: lost, repeated, or reordered. They may cost time, never correctness."""

from __future__ import annotations

from chaos.faults.daemons import are_taken_over
from chaos.faults.fault import Fault, titled
from chaos.harness.pg_notify import REORDERING, REPEATING
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext

TAKEOVER_S = 3.0  #: to notice that a lease has expired, and to start elsewhere


def lost_while_moving(context: FaultContext) -> None:
    """Every push is lost while one portfolio migrates and another reloads."""
    with context.cluster.pushes_lost():
        _move_and_reload(context)


def lost_while_dying(context: FaultContext) -> None:
    """Every push is lost while a daemon is killed."""
    node = context.choose_node()
    owned = context.cluster.runs_on(node)
    with context.cluster.pushes_lost():
        context.kill_node(node)
        context.expect(
            lambda: are_taken_over(owned, context.cluster.runs()),
            (context.ttl_s + TAKEOVER_S) * BUDGET_FACTOR,
            f"{', '.join(run.name for run in owned)} taken over without pushes",
            "I6",
        )
    context.relaunch_if_proxied(node)  # the launcher restarts all others


def _replaced(context: FaultContext, body: str) -> None:
    """Move and reload while `pg_notify`, which sends pushes, has the function body `body`."""
    with context.cluster.pushes_replaced(body):
        _move_and_reload(context)
        context.sleep(2)


repeated = titled("Every push arrives three times.", _replaced, REPEATING)
reordered = titled(
    "Pushes arrive late and out of order: each is held until the next one.", _replaced, REORDERING
)


def _move_and_reload(context: FaultContext) -> None:
    run = context.choose_portfolio()
    other = context.choose_portfolio(but=[run.name])
    handoff = context.migrate(run, context.choose_target(run))
    begun = context.call_api(f"/api/portfolios/{other.name}/reload/")
    context.expect_handoff_end(handoff, 10 * BUDGET_FACTOR)
    context.expect_handoff_end(int(begun["id"]) if begun else None, 10 * BUDGET_FACTOR)


FAULTS = (
    Fault("pushes-lost", lost_while_moving, 8, alone=True),
    Fault("pushes-lost-and-death", lost_while_dying, 12, alone=True),
    Fault("pushes-repeated", repeated, 5, alone=True),
    Fault("pushes-reordered", reordered, 6, alone=True),
)
