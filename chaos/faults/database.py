"""PostgreSQL: restarted, killed, frozen, away, with another clock."""

from __future__ import annotations

import signal

import psycopg

from chaos.faults.fault import Fault
from chaos.harness.cluster import alive
from chaos.runner.fault_context import PATIENCE, RESTART_LIMIT_S, FaultContext

AWAY = "the database is away"


def restart_database(scene: FaultContext) -> None:
    """PostgreSQL is stopped in order and started again."""
    _end_server(scene, signal.SIGINT)


def kill_database(scene: FaultContext) -> None:
    """kill -9 of PostgreSQL, which recovers from its log."""
    _end_server(scene, signal.SIGKILL)


def _end_server(scene: FaultContext, sign: signal.Signals) -> None:
    scene.touch_everything(AWAY)
    server = scene.fleet.postgres()[0]
    server.send_signal(sign)
    scene.expect(lambda: not alive([server]), 15 * PATIENCE, "the end of the old server")
    _expect_back(scene)


def _expect_back(scene: FaultContext) -> None:
    scene.expect(lambda: _answers(scene), RESTART_LIMIT_S, "the database back")
    scene.expect(scene.fleet.answers, RESTART_LIMIT_S, "the API back")


def _answers(scene: FaultContext) -> bool:
    try:
        scene.fleet.now()
    except psycopg.Error:
        return False
    return True


def database_away(scene: FaultContext) -> None:
    """PostgreSQL is gone for three leases."""
    scene.touch_everything(AWAY)
    with scene.away(scene.fleet.postgres()[:1]):
        scene.sleep(scene.ttl_s * 90 / 30)
    _expect_back(scene)


def freeze_database(scene: FaultContext) -> None:
    """SIGSTOP of PostgreSQL for longer than a lease: connections stay open and silent."""
    scene.touch_everything(AWAY)
    with scene.held(scene.fleet.postgres()):
        scene.sleep(scene.ttl_s * 40 / 30)
    _expect_back(scene)


#: From the first answer of the database to a commit of every portfolio.
COMMITS_WITHIN_S = 5.0


def silent_database_host(scene: FaultContext) -> None:
    """The database accepts connections and answers nothing, until every deadline is over."""
    scene.touch_everything(AWAY)
    stood = _positions(scene)
    with scene.held(scene.fleet.postgres()):
        # The kernel goes on accepting, so a new connection hangs as well. Every statement that
        # was under way has been given up by then, that of pages and the watcher too.
        scene.expect(lambda: not scene.fleet.answers(), 12 * PATIENCE, "readiness red")
        scene.sleep(12)
    scene.expect(lambda: _answers(scene), RESTART_LIMIT_S, "the database back")
    scene.expect(
        lambda: all(_positions(scene).get(name, seq + 1) > seq for name, seq in stood.items()),
        COMMITS_WITHIN_S * PATIENCE,
        "commits of everything that ran",
    )
    scene.expect(scene.fleet.answers, RESTART_LIMIT_S, "the API back")


def _positions(scene: FaultContext) -> dict[str, int]:
    """Return how far everything is that a node owns."""
    return {run.name: run.last_seq for run in scene.fleet.runs().values() if run.node}


def outage_and_catch_up(scene: FaultContext) -> None:
    """Nothing can be committed for 40 s; then everything catches up on old prices."""
    scene.touch_everything(AWAY)
    with scene.held(scene.fleet.postgres()):
        scene.sleep(40)
    _expect_back(scene)


_AHEAD = """
SELECT p.name FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
CROSS JOIN LATERAL (
    SELECT from_seq + extract(epoch FROM clock_timestamp() - from_time) * rate AS seq
    FROM portfolios_feedsegment s WHERE s.feed_id = p.feed_id ORDER BY s.id DESC LIMIT 1
) head
WHERE r.node_id IS NOT NULL AND r.last_seq > head.seq + 1
"""


def clock_forward(scene: FaultContext) -> None:
    """The database's clock jumps a minute ahead and back again."""
    _jump(scene, 60)


def clock_back(scene: FaultContext) -> None:
    """The database's clock jumps a minute back and ahead again."""
    _jump(scene, -60)


def _jump(scene: FaultContext, seconds: float) -> None:
    scene.touch_everything("the feed's time jumps with the clock")
    scene.forget_the_clock()
    with scene.fleet.clock_jump(seconds):
        scene.sleep(scene.ttl_s)
    # What was processed in the time that never was lies ahead of the head for a minute, in which
    # everything stands still; nodes notice only some beats after the clock is right again, so that
    # a commit says nothing yet.
    scene.expect(
        lambda: scene.fleet.query(_AHEAD) == [],
        abs(seconds) + scene.ttl_s + 20,
        "the head having come to where everything stands",
    )


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
