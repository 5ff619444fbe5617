"""Strategies that loop, use up memory, exit, raise or are slow; other portfolios are unaffected."""

from __future__ import annotations

from typing import Any

from chaos.faults.fault import Fault
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext, NotAvailable

SYMBOLS = ["IBM", "GE", "HD", "XOM", "CVX", "JPM", "MS", "WFC", "KO", "PEP"]


def _run_misbehaving(
    context: FaultContext, strategy: str, config: dict[str, Any], seconds: float
) -> None:
    """Run a misbehaving portfolio for `seconds`, then delete it."""
    name = f"bad-{strategy.replace('_', '-')}-{context.rng.getrandbits(20):05x}"
    context.mark_affected(name)
    _require_strategy(context, strategy)
    context.undo.callback(_delete_portfolio, context, name)
    made = context.call_api(
        "/api/portfolios/",
        {"name": name, "strategy": strategy, "config": config, "symbols": SYMBOLS},
    )
    if not made:
        return
    context.sleep(seconds)
    run = context.cluster.run(name)
    context.note(f"{run.phase} on {run.node}, epoch {run.epoch}: {run.reason[:200]}")


def _delete_portfolio(context: FaultContext, name: str) -> None:
    context.call_api(f"/api/portfolios/{name}/", method="DELETE")


def _require_strategy(context: FaultContext, strategy: str) -> None:
    """Raise NotAvailable if no live node has the strategy."""
    ((count,),) = context.cluster.query(
        "SELECT count(*) FROM scheduling_node WHERE strategies ? %s AND status = 'alive'", strategy
    )
    if not count:
        raise NotAvailable(f"no node has the strategy {strategy}")


def looping(context: FaultContext) -> None:
    """A strategy that never returns from an event."""
    _run_misbehaving(context, "looper", {"at_event": 5}, 12)


def exiting(context: FaultContext) -> None:
    """A strategy that ends its process."""
    _run_misbehaving(context, "exiter", {"at_event": 5}, 8)


def raising(context: FaultContext) -> None:
    """A strategy that raises at its n-th event."""
    _run_misbehaving(context, "raise_at", {"at_event": 12}, 8)


def raising_in_a_hook(context: FaultContext) -> None:
    """A strategy that raises when a timer is due."""
    _run_misbehaving(context, "misbehaving_in_hook", {"hook": "on_timer", "how": "raise"}, 8)


def looping_in_a_hook(context: FaultContext) -> None:
    """A strategy that never returns from a report of its order."""
    _run_misbehaving(context, "misbehaving_in_hook", {"hook": "on_report", "how": "loop"}, 12)


def unloadable(context: FaultContext) -> None:
    """A strategy that cannot be loaded."""
    _run_misbehaving(context, "raise_on_load", {}, 6)


def using_up_memory(context: FaultContext) -> None:
    """A strategy that allocates memory without end."""
    _misbehave(context, "allocate_fast")


def killing_its_host(context: FaultContext) -> None:
    """A strategy that kills its host process."""
    _misbehave(context, "kill_parent")


def forking(context: FaultContext) -> None:
    """A strategy that leaves looping grandchildren in their own sessions."""
    _misbehave(context, "fork_daemons")


def printing(context: FaultContext) -> None:
    """A strategy that prints without end."""
    _misbehave(context, "print_endlessly")


def ignoring_signals(context: FaultContext) -> None:
    """A strategy that ignores every signal and loops."""
    _misbehave(context, "ignore_signals")


def _misbehave(context: FaultContext, what: str) -> None:
    """Run the strategy `misbehaving` with one of its actions."""
    _run_misbehaving(context, "misbehaving", {"action": what, "at_event": 5}, 10)


def slow(context: FaultContext) -> None:
    """A strategy that takes half a second for each event."""
    _run_misbehaving(context, "sleeper", {"seconds": 0.5}, 10)


def poisoned(context: FaultContext) -> None:
    """A strategy that exits at each start until its portfolio is quarantined."""
    name = f"poisoned-{context.rng.getrandbits(20):05x}"
    context.mark_affected(name)
    context.undo.callback(_delete_portfolio, context, name)
    made = context.call_api(
        "/api/portfolios/",
        {"name": name, "strategy": "exiter", "config": {"at_event": 1}, "symbols": SYMBOLS},
    )
    if made:
        context.expect(
            lambda: (
                context.cluster.run(name).phase == "quarantined"
                and context.cluster.run(name).reason
            ),
            150,
            f"{name} quarantined, with a reason",
            "I8",
        )


def bad_revision(context: FaultContext) -> None:
    """A revision that cannot be loaded; the old one keeps running."""
    run = context.choose_portfolio(but=canaries(context))
    _require_strategy(context, "raise_on_load")
    changed = context.call_api(
        f"/api/portfolios/{run.name}/", {"strategy": "raise_on_load", "config": {}}, "PATCH"
    )
    if changed:
        _expect_rejected(context, run.name, run.revision)


def failing_revision(context: FaultContext) -> None:
    """A revision that fails at its first event; the good one is restored automatically."""
    run = context.choose_portfolio(but=canaries(context))
    changed = context.call_api(
        f"/api/portfolios/{run.name}/", {"strategy": "raise_at", "config": {"at_event": 1}}, "PATCH"
    )
    if changed:
        _expect_rejected(context, run.name, run.revision)


def _expect_rejected(context: FaultContext, name: str, good: int) -> None:
    """I11: expect that the good revision runs and the other one is marked rejected."""
    before = context.request("GET", f"/api/portfolios/{name}/revisions/?limit=1000")
    wanted = (
        max(row["number"] for row in before.json["results"])
        if before and before.status == 200
        else good + 1
    )
    context.expect(
        lambda: (
            _revision_status(context, name, wanted) == "rejected"
            and context.cluster.run(name).revision == good
            and context.cluster.run(name).phase == "running"
        ),
        30 * BUDGET_FACTOR,
        f"{name} back on revision {good}, and revision {wanted} rejected",
        "I11",
    )
    # Make the configuration that ran before the desired one again, as a new revision.
    answer = context.request("GET", f"/api/portfolios/{name}/revisions/?limit=1000")
    if answer and answer.status == 200:
        row = next(row for row in answer.json["results"] if row["number"] == good)
        context.call_api(
            f"/api/portfolios/{name}/",
            {"strategy": row["strategy"], "config": row["config"]},
            "PATCH",
        )


def _revision_status(context: FaultContext, name: str, number: int) -> str:
    found = context.cluster.query(
        "SELECT v.status FROM portfolios_revision v JOIN portfolios_portfolio p"
        " ON p.id = v.portfolio_id WHERE p.name = %s AND p.archived_at IS NULL AND v.number = %s",
        name,
        number,
    )
    return str(found[0][0]) if found else ""


def canaries(context: FaultContext) -> list[str]:
    """Canaries, whose strategy must not change: their digest covers the whole run."""
    return [name for name in context.cluster.runs() if name.startswith("canary")]


FAULTS = (
    Fault("strategy-loops", looping, 13),
    Fault("strategy-exits", exiting, 9),
    Fault("strategy-raises", raising, 9),
    Fault("strategy-raises-in-hook", raising_in_a_hook, 9),
    Fault("strategy-loops-in-hook", looping_in_a_hook, 13),
    Fault("strategy-unloadable", unloadable, 7),
    Fault("strategy-eats-memory", using_up_memory, 11),
    Fault("strategy-kills-host", killing_its_host, 11),
    Fault("strategy-forks", forking, 11),
    Fault("strategy-prints", printing, 11),
    Fault("strategy-ignores-signals", ignoring_signals, 11),
    Fault("strategy-slow", slow, 11),
    Fault("poisoned-to-quarantine", poisoned, 70, alone=True),
    Fault("bad-revision", bad_revision, 5),
    Fault("failing-revision", failing_revision, 10),
)
