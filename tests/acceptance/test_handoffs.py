"""Handoffs in a running installation: no event lost or repeated, short pauses."""

from __future__ import annotations

from collections.abc import Callable

from chaos.harness.cluster import CANARIES, Cluster
from chaos.harness.installation import budget_s
from tests.acceptance.conftest import FEED_RATE

MOVES = 12


def quantile(values: list[float], share: float) -> float:
    """Return the value that `share` of all values do not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def test_many_migrations_lose_no_event_and_pause_briefly(
    cluster: Cluster, record_property: Callable[[str, object], None]
) -> None:
    pauses = []
    for number in range(MOVES):
        name = CANARIES[number % 3]
        done = cluster.migrate(name, cluster.other_node(name))
        pauses.append(done["pause_ms"])
    cluster.wait_for_progress()
    cluster.assert_nothing_lost()
    p50, p99 = quantile(pauses, 0.5), quantile(pauses, 0.99)
    print(f"\npause of {MOVES} moves: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    record_property("pause_p50_ms", p50)
    record_property("pause_p99_ms", p99)
    assert p50 <= 1000 * budget_s(0.1)
    assert p99 <= 1000 * budget_s(0.5)


def test_a_migration_does_not_pause_other_portfolios(cluster: Cluster) -> None:
    # Frozen, so that the balancer does not rebalance after the four migrations.
    cluster.call("POST", "/api/schedule/freeze/", {"reason": "test"})
    since = cluster.now()
    for _ in range(4):
        cluster.migrate("canary-3", cluster.other_node("canary-3"))
    cluster.wait_for_progress()
    # A canary's checkpoint is written with every commit, so a pause of two seconds would leave it
    # at least 2 * FEED_RATE events behind the head.
    ((head, slowest),) = cluster.query(
        "SELECT max(r.last_seq), min(r.last_seq) FROM scheduling_run r"
        " JOIN portfolios_portfolio p ON p.id = r.portfolio_id WHERE p.archived_at IS NULL"
    )
    moved = {row["portfolio"] for row in cluster.events("granted", since)}
    cluster.call("POST", "/api/schedule/unfreeze/", {})
    assert head - slowest < FEED_RATE * budget_s(1)
    assert moved == {"canary-3"}


def test_a_migration_without_pushes_stays_within_its_budget(cluster: Cluster) -> None:
    with cluster.pushes_lost():
        began = cluster.now()
        done = cluster.migrate("canary-1", cluster.other_node("canary-1"))
        took_s = (cluster.now() - began).total_seconds()
    print(f"\nmove without pushes: {took_s:.1f} s, pause {done['pause_ms']:.0f} ms")
    assert took_s <= budget_s(10)
    assert done["pause_ms"] <= 1000 * budget_s(5)
    cluster.assert_canaries_clean()
