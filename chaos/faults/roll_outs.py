"""Roll-outs of an artifact over portfolios that trade, and what dies within them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chaos.faults.fault import Fault
from chaos.harness.cluster import SHARES
from chaos.harness.processes import kill_processes, process_tree
from chaos.harness.turns import BROKEN, upload_turns
from chaos.runner.fault_context import (
    BUDGET_FACTOR,
    RESTART_LIMIT_S,
    WATCHER,
    WEB,
    WORKER,
    FaultContext,
    NotAvailable,
)

#: They stay, so that the verification at the end covers all their revisions.
PORTFOLIOS = ("rolled-1", "rolled-2", "rolled-3")
_RUNS_A_GOOD_REVISION = """
SELECT r.phase = 'running' AND v.status = 'good'
FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
JOIN portfolios_revision v ON v.portfolio_id = p.id AND v.number = r.revision
WHERE p.name = %s AND p.archived_at IS NULL
"""
ENDED = ("finished", "stopped", "back")
#: Deadlines of the roll-out's own states may have to pass, if a kill made a portfolio late.
END_LIMIT_S = 240.0


def good_version(context: FaultContext) -> None:
    """A new version is rolled out over portfolios that trade; each of them runs it."""
    number = _begin(context, _add_version(context))
    _expect_end(context, number, "finished")


def ended_by_an_operator(context: FaultContext) -> None:
    """A roll-out is stopped or taken back at a random moment."""
    number = _begin(context, _add_version(context))
    if number is None:
        return
    context.sleep(context.rng.uniform(0, 3))
    verb = context.rng.choice(("stop", "back"))
    context.call_api(f"/api/roll-outs/{number}/{verb}/", {"reason": "chaos"})
    _expect_end(context, number)


def bad_version(context: FaultContext) -> None:
    """A version that fails at its start or its first events is rolled out; nothing keeps it."""
    broken = context.rng.choice(BROKEN)
    number = _begin(context, _add_version(context, broken=broken))
    context.note(f"fails {broken}")
    if number is None or not _expect_end(context, number, "stopped"):
        return
    items = _items(context, number)
    if "rejected" not in [state for _, state in items]:
        context.report("I11", f"no portfolio of roll-out {number} is rejected", {"items": items})
    context.expect(
        lambda: all(
            context.cluster.query(_RUNS_A_GOOD_REVISION, name) == [(True,)] for name, _ in items
        ),
        30 * BUDGET_FACTOR,
        f"the portfolios of roll-out {number} running their good revisions",
        "I11",
    )
    context.expect(
        lambda: context.cluster.query(
            "SELECT 1 FROM scheduling_alert WHERE key = %s", f"roll-out:{number}"
        ),
        30 * BUDGET_FACTOR,
        f"an alert that roll-out {number} stopped",
        "I12",
    )
    context.call_api(f"/api/roll-outs/{number}/back/", {"reason": "chaos"})
    _expect_end(context, number, "back")


def killed_in_roll_out(context: FaultContext) -> None:
    """A process, its daemon, web, watcher or worker is killed at a random step of a roll-out."""
    artifact = _add_version(context)
    context.mark_all_affected("every commit goes through the web")
    number = _begin(context, artifact)
    if number is None:
        return
    # Wait for the end even if there is nothing to kill: no roll-out can begin beside an open one.
    context.undo.callback(_expect_end, context, number, "finished")
    wanted = context.rng.choice(("changing", "changing", "proving", "done"))
    context.expect(
        lambda: (
            wanted in [state for _, state in _items(context, number)] or _is_over(context, number)
        ),
        END_LIMIT_S,
        f"a portfolio of roll-out {number} {wanted}",
    )
    context.sleep(context.rng.choice((0.0, 0.0, 0.01, 0.03, 0.1)))
    names = [name for name, state in _items(context, number) if state == wanted]
    victim = context.rng.choice(("process", "daemon", "web", "watcher", "worker"))
    context.note(f"{victim} killed at {_items(context, number)}")
    _kill(context, victim, names or PORTFOLIOS)
    context.expect(context.cluster.is_ready, RESTART_LIMIT_S, "the API back")


def _kill(context: FaultContext, victim: str, names: Sequence[str]) -> None:
    """Kill `victim`: web, watcher, worker, the daemon of one of the portfolios, or one of that
    daemon's processes. Raise NotAvailable if there is no such daemon or process."""
    run = context.cluster.run(context.rng.choice(list(names)))
    if victim in ("process", "daemon"):
        if run.node is None:
            raise NotAvailable(f"{run.name} has no owner")
        if victim == "daemon":
            context.kill_node(run.node)
            context.relaunch_if_proxied(run.node)
            return
        children = process_tree(context.cluster.daemon(run.node))[1:]
        if not children:
            raise NotAvailable(f"the daemon of {run.node} has no process yet")
        kill_processes([context.rng.choice(children)])
        return
    kill_processes(
        context.processes_matching({"web": WEB, "watcher": WATCHER, "worker": WORKER}[victim])
    )


def _add_version(context: FaultContext, broken: str = "") -> str:
    """Upload a new version of the strategy `turns`, `broken` as in BROKEN. Return its hash."""
    return upload_turns(context.cluster, f"1.{context.rng.getrandbits(40)}", broken=broken)


def _begin(context: FaultContext, artifact: str) -> int | None:
    """Begin a roll-out over PORTFOLIOS, created if missing. Return its id, None if refused."""
    context.mark_affected(*PORTFOLIOS)
    if missing := [name for name in PORTFOLIOS if name not in context.cluster.runs()]:
        first = _add_version(context)
        for name in missing:
            made = {"name": name, "strategy": "turns", "symbols": SHARES, "artifact": first}
            context.call_api("/api/portfolios/", made)
    body: dict[str, Any] = {
        "artifact": artifact,
        "portfolios": list(PORTFOLIOS),
        "at_a_time": context.rng.choice((1, 2)),
        "canary_seconds": context.rng.choice((0, 2, None)),
        "reason": "chaos",
    }
    begun = context.call_api("/api/roll-outs/", body)
    return int(begun["id"]) if begun else None


def _expect_end(context: FaultContext, number: int | None, wanted: str = "") -> bool:
    """Wait for the end of a roll-out. Return whether it came in time, as `wanted` ("": any).
    Report a violation if not. Return False if the roll-out was refused (`number` is None)."""
    if number is None:
        return False
    what = f"the end of roll-out {number}"
    if not context.expect(lambda: _is_over(context, number), END_LIMIT_S, what, "I8"):
        return False
    state = _roll_out_state(context, number)
    context.note(f"roll-out {number} {state}: {_items(context, number)}")
    if wanted and state != wanted:
        ended = f"roll-out {number} is {state}, wanted {wanted}"
        context.report("fault", ended, {"items": _items(context, number)})
        return False
    return True


def _is_over(context: FaultContext, number: int) -> bool:
    return _roll_out_state(context, number) in ENDED


def _roll_out_state(context: FaultContext, number: int) -> str:
    ((state,),) = context.cluster.query(
        "SELECT state FROM scheduling_rollout WHERE id = %s", number
    )
    return str(state)


def _items(context: FaultContext, number: int) -> list[tuple[Any, ...]]:
    """Return (portfolio, state) of each item, the canary first."""
    return context.cluster.query(
        "SELECT p.name, i.state FROM scheduling_rolloutitem i"
        " JOIN portfolios_portfolio p ON p.id = i.portfolio_id"
        " WHERE i.roll_out_id = %s ORDER BY i.position",
        number,
    )


FAULTS = (
    Fault("roll-out", good_version, 20, is_load=True),
    Fault("roll-out-of-bad-version", bad_version, 20, is_load=True),
    Fault("roll-out-ended", ended_by_an_operator, 20, is_load=True),
    Fault("kill-in-roll-out", killed_in_roll_out, 30, alone=True),
)
