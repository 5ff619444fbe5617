"""Strategies that loop, use up memory, exit, raise or are slow; other portfolios are unaffected."""

from __future__ import annotations

from typing import Any

from chaos.faults.fault import Fault, titled
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext, NotAvailable

SYMBOLS = ["IBM", "GE", "HD", "XOM", "CVX", "JPM", "MS", "WFC", "KO", "PEP"]


def _run_misbehaving(
    context: FaultContext, strategy: str, config: dict[str, Any], seconds: float
) -> None:
    """Run a portfolio of this strategy for `seconds`, then delete it."""
    _require_strategy(context, strategy)
    name = f"bad-{strategy.replace('_', '-')}-{context.rng.getrandbits(20):05x}"
    if not context.create_portfolio(name, strategy=strategy, config=config, symbols=SYMBOLS):
        return
    context.sleep(seconds)
    run = context.cluster.run(name)
    context.note(f"{run.phase} on {run.node}, epoch {run.epoch}: {run.reason[:200]}")


def _require_strategy(context: FaultContext, strategy: str) -> None:
    """Raise NotAvailable if no live node has the strategy."""
    ((count,),) = context.cluster.query(
        "SELECT count(*) FROM scheduling_node WHERE strategies ? %s AND status = 'alive'", strategy
    )
    if not count:
        raise NotAvailable(f"no node has the strategy {strategy}")


def _strategy_that(does: str, name: str, strategy: str, runs_s: float, **config: Any) -> Fault:
    """Return the fault `strategy-NAME`: a portfolio of this strategy runs for `runs_s`.
    `does` completes its title, `A strategy that …`."""
    inject = titled(f"A strategy that {does}.", _run_misbehaving, strategy, config, runs_s)
    return Fault(f"strategy-{name}", inject, runs_s + 1)


def _strategy_that_acts(does: str, name: str, action: str) -> Fault:
    """Return the fault `strategy-NAME`: `misbehaving` runs, with this action from event 5 on."""
    return _strategy_that(does, name, "misbehaving", 10, action=action, at_event=5)


def poisoned(context: FaultContext) -> None:
    """A strategy that exits at each start until its portfolio is quarantined."""
    name = f"poisoned-{context.rng.getrandbits(20):05x}"
    config = {"at_event": 1}
    if context.create_portfolio(name, strategy="exiter", config=config, symbols=SYMBOLS):
        context.expect(
            lambda: (
                context.cluster.run(name).phase == "quarantined"
                and context.cluster.run(name).reason
            ),
            150,  # seconds: five attempts, and back-offs of 1 to 30 s between them
            f"{name} quarantined, with a reason",
            "I8",
        )


def _change_to(context: FaultContext, strategy: str, config: dict[str, Any]) -> None:
    """Change a portfolio to a strategy that fails, and expect the good revision again."""
    run = context.choose_portfolio(but=canaries(context))
    _require_strategy(context, strategy)
    changes = {"strategy": strategy, "config": config}
    if context.call_api(f"/api/portfolios/{run.name}/", changes, "PATCH"):
        _expect_rejected(context, run.name, run.revision)


bad_revision = titled(
    "A revision that cannot be loaded; the old one keeps running.", _change_to, "raise_on_load", {}
)
failing_revision = titled(
    "A revision that fails at its first event; the good one is restored automatically.",
    *(_change_to, "raise_at", {"at_event": 1}),
)


def _expect_rejected(context: FaultContext, name: str, good: int) -> None:
    """I11: expect revision `good` to run and the newest to be rejected; then want `good` again."""
    before = context.request("GET", f"/api/portfolios/{name}/revisions/?limit=1000")
    newest = (
        max(row["number"] for row in before.json["results"])
        if before and before.status == 200
        else good + 1  # without an answer: the revision that the caller made after `good`
    )
    context.expect(
        lambda: (
            _revision_status(context, name, newest) == "rejected"
            and context.cluster.run(name).revision == good
            and context.cluster.run(name).phase == "running"
        ),
        30 * BUDGET_FACTOR,
        f"{name} back on revision {good}, and revision {newest} rejected",
        "I11",
    )
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
    """Return the names of the canaries, whose strategy no fault may change.
    Their digest covers the whole chaos run."""
    return [name for name in context.cluster.runs() if name.startswith("canary")]


FAULTS = (
    _strategy_that("never returns from an event", "loops", "looper", 12, at_event=5),
    _strategy_that("ends its process", "exits", "exiter", 8, at_event=5),
    _strategy_that("raises at its n-th event", "raises", "raise_at", 8, at_event=12),
    _strategy_that("raises when a timer is due", "raises-in-hook", "misbehaving_in_hook", 8,
                   hook="on_timer", how="raise"),
    _strategy_that("never returns from a report of its order", "loops-in-hook",
                   "misbehaving_in_hook", 12, hook="on_report", how="loop"),
    _strategy_that("cannot be loaded", "unloadable", "raise_on_load", 6),
    _strategy_that_acts("allocates memory without end", "eats-memory", "allocate_fast"),
    _strategy_that_acts("kills its host process", "kills-host", "kill_parent"),
    _strategy_that_acts("leaves looping grandchildren in their own sessions", "forks",
                        "fork_daemons"),
    _strategy_that_acts("prints without end", "prints", "print_endlessly"),
    _strategy_that_acts("ignores every signal and loops", "ignores-signals", "ignore_signals"),
    _strategy_that("takes half a second for each event", "slow", "sleeper", 10, seconds=0.5),
    Fault("poisoned-to-quarantine", poisoned, 70, alone=True),
    Fault("bad-revision", bad_revision, 5),
    Fault("failing-revision", failing_revision, 10),
)  # fmt: skip
