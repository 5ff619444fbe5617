"""What operators do on an ordinary day, between the faults and beside them."""

from __future__ import annotations

from chaos.faults.fault import Fault
from chaos.faults.strategies import _canaries
from chaos.runner.fault_context import PATIENCE, FaultContext


def migrations(scene: FaultContext) -> None:
    """Three portfolios are migrated at once."""
    begun = []
    chosen: list[str] = []
    for _ in range(3):
        run = scene.portfolio(but=chosen)
        chosen.append(run.name)
        begun.append(scene.migrate(run, scene.target_for(run)))
    for handoff in begun:
        scene.expect_end(handoff, 10 * PATIENCE)


def reloads(scene: FaultContext) -> None:
    """Three portfolios are reloaded."""
    chosen: list[str] = []
    for _ in range(3):
        run = scene.portfolio(but=chosen)
        chosen.append(run.name)
        begun = scene.do(f"/api/portfolios/{run.name}/reload/")
        scene.expect_end(int(begun["id"]) if begun else None, 10 * PATIENCE)


def rebalance(scene: FaultContext) -> None:
    """A rebalance is asked for, after a move that gives it something to do."""
    run = scene.portfolio()
    scene.expect_end(scene.migrate(run, scene.target_for(run)), 10 * PATIENCE)
    scene.do(f"/api/portfolios/{run.name}/unpin/")
    scene.do("/api/schedule/rebalance/")


def patches(scene: FaultContext) -> None:
    """Two PATCHes quickly one after the other: the last is what runs in the end."""
    run = scene.portfolio(but=_canaries(scene))
    answer = scene.ask("GET", f"/api/portfolios/{run.name}/")
    if answer is None or answer.status != 200:
        return
    config = answer.json["config"]
    quantity = scene.rng.randrange(10, 90)
    for number in (quantity, quantity + 1):
        scene.do(
            f"/api/portfolios/{run.name}/", {"config": {**config, "quantity": f"{number}"}}, "PATCH"
        )


def create_and_delete(scene: FaultContext) -> None:
    """A portfolio is created, runs, and is deleted."""
    name = f"short-lived-{scene.rng.getrandbits(20):05x}"
    scene.touch(name)
    made = scene.do(
        "/api/portfolios/",
        {
            "name": name,
            "strategy": "sma_cross",
            "config": {"fast": 2, "slow": 4, "quantity": "10"},
            "symbols": ["IBM", "GE"],
        },
    )
    if made:
        scene.expect(
            lambda: scene.fleet.run(name).phase == "running" or scene.fleet.run(name).reason,
            12 * PATIENCE,
            f"{name} running, or why not",
            "I8",
        )
        scene.sleep(scene.rng.uniform(0, 3))
        scene.do(f"/api/portfolios/{name}/", method="DELETE")


def stop_and_start(scene: FaultContext) -> None:
    """A portfolio is stopped and started again."""
    run = scene.portfolio()
    scene.undo.callback(scene.do, f"/api/portfolios/{run.name}/start/")
    begun = scene.do(f"/api/portfolios/{run.name}/stop/")
    scene.expect_end(int(begun["id"]) if begun else None, 10 * PATIENCE)
    scene.sleep(1)


def quiet_feed(scene: FaultContext) -> None:
    """The feed releases nothing for a while; nobody moves, and nobody is called stalled."""
    scene.touch_everything("there is nothing to commit")
    scene.undo.callback(_let_feed_run, scene, _rate(scene))
    _let_feed_run(scene, 0.0)
    scene.sleep(10)


_BEYOND = """
SELECT p.name, r.last_seq, s.from_seq FROM scheduling_run r
JOIN portfolios_portfolio p ON p.id = r.portfolio_id
CROSS JOIN LATERAL (SELECT from_seq, rate FROM portfolios_feedsegment
                    WHERE feed_id = p.feed_id ORDER BY id DESC LIMIT 1) s
WHERE s.rate = 0 AND r.last_seq > s.from_seq
"""


def pause_unheard(scene: FaultContext) -> None:
    """The feed pauses while a node is frozen and pushes are lost: it commits nothing beyond."""
    scene.touch_everything("there is nothing to commit")
    node = scene.node()
    scene.undo.callback(_let_feed_run, scene, _rate(scene))
    with scene.fleet.no_pushes():
        with scene.node_held(node):
            _let_feed_run(scene, 0.0)  # a second from now, and it sleeps past that
            scene.sleep(scene.ttl_s / 2)
        scene.sleep(4)
    beyond = scene.fleet.query(_BEYOND)
    scene.expect(lambda: not beyond, 0, f"nothing committed beyond the pause: {beyond}", "I2")


def _rate(scene: FaultContext) -> float:
    ((rate,),) = scene.fleet.query(
        "SELECT rate FROM portfolios_feedsegment ORDER BY id DESC LIMIT 1"
    )
    return float(rate)


def _let_feed_run(scene: FaultContext, rate: float) -> None:
    """Give the feed another pace in a second from now, when every node has heard of it."""
    scene.fleet.query(
        """
        INSERT INTO portfolios_feedsegment (feed_id, from_seq, from_time, rate)
        SELECT feed_id, from_seq + floor(extract(epoch FROM at - from_time) * rate)::bigint, at, %s
        FROM (SELECT *, clock_timestamp() + interval '1 second' AS at FROM portfolios_feedsegment
              ORDER BY id DESC LIMIT 1) newest
        """,
        rate,
    )
    scene.fleet.query("UPDATE scheduling_node SET desired_version = desired_version + 1")


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
