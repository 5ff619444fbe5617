"""Changes of a configuration: automatic reload, and rollback of a bad revision."""

from __future__ import annotations

from chaos.harness.cluster import Cluster
from chaos.harness.installation import budget_s
from chaos.harness.observation import wait_for
from tests.support.undisturbed import starved_nodes

NAME = "changing"


def test_a_good_change_keeps_positions_and_a_bad_one_is_rolled_back(quick_cluster: Cluster) -> None:
    quick_cluster.create(NAME, "buy_and_hold", ["IBM", "GE", "HD"], config={"quantity": "7"})
    try:
        wait_for(
            lambda: quick_cluster.get(f"/api/portfolios/{NAME}/"),
            lambda seen: (
                seen["good_revision"] == 1 and len(seen["account"]["positions"] or {}) == 3
            ),
            "a good revision 1 and three positions",
        )
        _change_well(quick_cluster)
        _change_badly(quick_cluster)
        quick_cluster.assert_history_whole()
    finally:
        quick_cluster.delete(NAME)


def positions(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """Return symbol → (quantity, average price), which no reload may change."""
    held = cluster.checkpoint(NAME)["account"]["positions"]
    return {row["symbol"]: (row["quantity"], row["average_price"]) for row in held}


def _change_well(cluster: Cluster) -> None:
    held, before, since = positions(cluster), cluster.run(NAME), cluster.now()
    answer = cluster.patch(NAME, {"config": {"quantity": "9"}})
    assert answer["portfolio"]["revision"] == 2
    assert answer["handoff"]["kind"] == "reload"
    state = cluster.wait_for_handoff(answer["handoff"]["id"], budget_s(2))["state"]
    after, _ = wait_for(lambda: cluster.run(NAME), lambda run: run.revision == 2, "r2")
    if before.node not in starved_nodes(cluster, since):
        assert (state, after.node, after.epoch) == ("done", before.node, before.epoch + 1)
    assert positions(cluster) == held
    wait_for(
        lambda: cluster.get(f"/api/portfolios/{NAME}/")["good_revision"],
        lambda good: good == 2,
        "r2 good",
    )


def _change_badly(cluster: Cluster) -> None:
    """Let revision 3 fail at its first event: revision 2 runs again."""
    held, before, since = positions(cluster), cluster.run(NAME), cluster.now()
    cluster.patch(NAME, {"strategy": "raise_at", "config": {"at_event": 1}})
    rejected, _ = wait_for(
        lambda: cluster.revision(NAME, 3), lambda r: r["status"] == "rejected", "r3 rejected"
    )
    assert "KeyError" in rejected["status_reason"]
    after, _ = wait_for(
        lambda: cluster.run(NAME),
        lambda run: run.revision == 2 and run.phase == "running" and run.last_seq > before.last_seq,
        "revision 2 running again",
    )
    assert positions(cluster) == held
    shown = cluster.get(f"/api/portfolios/{NAME}/")
    if before.node not in starved_nodes(cluster, since):
        assert after.node == before.node
        assert after.epoch == before.epoch + 2  # one grant for r3, one for r2 again
        reason = shown["run"]["reason"]
        assert "r3 was rejected: " in reason and "KeyError" in reason
    assert shown["good_revision"] == 2
