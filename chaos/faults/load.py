"""Ordinary operations, between and beside the faults, and pauses of the feed."""

from __future__ import annotations

from chaos.faults.fault import Fault
from chaos.faults.strategies import canaries
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext


def migrations(context: FaultContext) -> None:
    """Three portfolios are migrated at once."""
    begun = []
    chosen: list[str] = []
    for _ in range(3):
        run = context.choose_portfolio(but=chosen)
        chosen.append(run.name)
        begun.append(context.migrate(run, context.choose_target(run)))
    for handoff in begun:
        context.expect_handoff_end(handoff, 10 * BUDGET_FACTOR)


def reloads(context: FaultContext) -> None:
    """Three portfolios are reloaded, one after the other."""
    chosen: list[str] = []
    for _ in range(3):
        run = context.choose_portfolio(but=chosen)
        chosen.append(run.name)
        begun = context.call_api(f"/api/portfolios/{run.name}/reload/")
        context.expect_handoff_end(int(begun["id"]) if begun else None, 10 * BUDGET_FACTOR)


def rebalance(context: FaultContext) -> None:
    """A rebalance is requested, after a migration that makes the load uneven."""
    run = context.choose_portfolio()
    context.expect_handoff_end(context.migrate(run, context.choose_target(run)), 10 * BUDGET_FACTOR)
    context.call_api(f"/api/portfolios/{run.name}/unpin/")
    context.call_api("/api/schedule/rebalance/")


def patches(context: FaultContext) -> None:
    """Two PATCHes in quick succession; the last one has to run in the end (convergence, I8)."""
    run = context.choose_portfolio(but=canaries(context))
    answer = context.request("GET", f"/api/portfolios/{run.name}/")
    if answer is None or answer.status != 200:
        return
    config = answer.json["config"]
    quantity = context.rng.randrange(10, 90)
    for number in (quantity, quantity + 1):
        context.call_api(
            f"/api/portfolios/{run.name}/", {"config": {**config, "quantity": f"{number}"}}, "PATCH"
        )


def create_and_delete(context: FaultContext) -> None:
    """A portfolio is created and runs, or says why it waits; the end of the fault deletes it."""
    name = f"short-lived-{context.rng.getrandbits(20):05x}"
    config = {"fast": 2, "slow": 4, "quantity": "10"}
    if context.create_portfolio(name, strategy="sma_cross", config=config, symbols=["IBM", "GE"]):
        context.expect(
            lambda: (
                context.cluster.run(name).phase == "running" or context.cluster.run(name).reason
            ),
            12 * BUDGET_FACTOR,
            f"{name} running, or a reason",
            "I8",
        )
        context.sleep(context.rng.uniform(0, 3))


def stop_and_start(context: FaultContext) -> None:
    """A portfolio is stopped and restarted."""
    run = context.choose_portfolio()
    context.undo.callback(context.call_api, f"/api/portfolios/{run.name}/start/")
    begun = context.call_api(f"/api/portfolios/{run.name}/stop/")
    context.expect_handoff_end(int(begun["id"]) if begun else None, 10 * BUDGET_FACTOR)
    context.sleep(1)


def quiet_feed(context: FaultContext) -> None:
    """The feed releases nothing for 10 s, for which no portfolio may change its owner (I9)."""
    context.mark_all_affected("there is nothing to commit")
    context.undo.callback(_set_feed_rate, context, _feed_rate(context))
    _set_feed_rate(context, 0.0)
    context.sleep(10)


#: Portfolios that committed beyond the begin of a pause: (name, last seq, first seq of the pause).
_BEYOND = """
SELECT p.name, r.last_seq, s.from_seq FROM scheduling_run r
JOIN portfolios_portfolio p ON p.id = r.portfolio_id
CROSS JOIN LATERAL (SELECT from_seq, rate FROM portfolios_feedsegment
                    WHERE feed_id = p.feed_id ORDER BY id DESC LIMIT 1) s
WHERE s.rate = 0 AND r.last_seq > s.from_seq
"""


def pause_unheard(context: FaultContext) -> None:
    """The feed pauses while a node is frozen and pushes are lost; no commit is beyond the pause."""
    context.mark_all_affected("there is nothing to commit")
    node = context.choose_node()
    context.undo.callback(_set_feed_rate, context, _feed_rate(context))
    with context.cluster.pushes_lost():
        with context.suspended_node(node):
            _set_feed_rate(context, 0.0)  # takes effect in a second, when the node is frozen
            context.sleep(context.ttl_s / 2)
        context.sleep(4)  # for the resumed node to commit what it would still process
    if beyond := context.cluster.query(_BEYOND):
        context.report(
            "I2", "portfolios committed beyond the pause of the feed", {"beyond": beyond}
        )


def _feed_rate(context: FaultContext) -> float:
    """Return the rate of the newest segment of any feed, in events a second."""
    ((rate,),) = context.cluster.query(
        "SELECT rate FROM portfolios_feedsegment ORDER BY id DESC LIMIT 1"
    )
    return float(rate)


def _set_feed_rate(context: FaultContext, rate: float) -> None:
    """Change the feed's rate one second from now: every node has received the change by then."""
    context.cluster.query(
        """
        INSERT INTO portfolios_feedsegment (feed_id, from_seq, from_time, rate)
        SELECT feed_id, from_seq + floor(extract(epoch FROM at - from_time) * rate)::bigint, at, %s
        FROM (SELECT *, clock_timestamp() + interval '1 second' AS at FROM portfolios_feedsegment
              ORDER BY id DESC LIMIT 1) newest
        """,
        rate,
    )
    # Nodes get the segments of feeds with their desired sets.
    context.cluster.query("UPDATE scheduling_node SET desired_version = desired_version + 1")


FAULTS = (
    Fault("migrations", migrations, 3, is_load=True),
    Fault("reloads", reloads, 4, is_load=True),
    Fault("rebalance", rebalance, 3, is_load=True),
    Fault("patches", patches, 3, is_load=True),
    Fault("create-and-delete", create_and_delete, 5, is_load=True),
    Fault("stop-and-start", stop_and_start, 3, is_load=True),
    Fault("quiet-feed", quiet_feed, 10, moves_nothing=True, alone=True),
    Fault("pause-unheard", pause_unheard, 10, moves_nothing=True, alone=True),
)
