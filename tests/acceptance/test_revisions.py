"""Changes of a configuration: automatic reload, and rollback of a bad revision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.harness.cluster import Cluster
from chaos.harness.installation import SLOW_MACHINE_S, budget_s
from chaos.harness.observation import wait_for

NAME = "changing"


@pytest.fixture
def changing(quick_cluster: Cluster) -> Iterator[Cluster]:
    """Add a portfolio that holds positions and whose revision 1 is good."""
    body = {
        "name": NAME,
        "strategy": "buy_and_hold",
        "config": {"quantity": "7"},
        "symbols": ["IBM", "GE", "HD"],
    }
    answer = quick_cluster.call("POST", "/api/portfolios/", body)
    assert answer.status == 201, answer.text
    wait_for(
        lambda: quick_cluster.get(f"/api/portfolios/{NAME}/"),
        lambda seen: seen["good_revision"] == 1 and len(seen["account"]["positions"] or {}) == 3,
        SLOW_MACHINE_S,
        "a good revision 1 and three positions",
    )
    yield quick_cluster
    quick_cluster.call("DELETE", f"/api/portfolios/{NAME}/", {})


def positions(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """Return symbol → (quantity, average price), which no reload may change."""
    held = cluster.checkpoint(NAME)["account"]["positions"]
    return {row["symbol"]: (row["quantity"], row["average_price"]) for row in held}


def shown_reason(cluster: Cluster) -> str:
    return str(cluster.get(f"/api/portfolios/{NAME}/")["run"]["reason"])


def test_a_changed_configuration_reloads_and_keeps_positions(changing: Cluster) -> None:
    held, before = positions(changing), changing.run(NAME)
    answer = changing.patch(NAME, {"config": {"quantity": "9"}})
    assert answer["portfolio"]["revision"] == 2
    assert answer["handoff"]["kind"] == "reload"
    assert changing.wait_for_handoff(answer["handoff"]["id"], budget_s(2))["state"] == "done"
    after = changing.run(NAME)
    assert (after.revision, after.node, after.epoch) == (2, before.node, before.epoch + 1)
    assert positions(changing) == held
    wait_for(
        lambda: changing.revision(NAME, 2)["status"],
        lambda s: s == "good",
        SLOW_MACHINE_S,
        "r2 good",
    )
    assert changing.get(f"/api/portfolios/{NAME}/")["good_revision"] == 2
    changing.assert_history_whole()


def test_after_two_quick_changes_the_last_one_runs(changing: Cluster) -> None:
    changing.patch(NAME, {"config": {"quantity": "8"}})
    changing.patch(NAME, {"config": {"quantity": "10"}})
    wait_for(
        lambda: changing.run(NAME),
        lambda run: (run.revision, run.phase) == (3, "running"),
        SLOW_MACHINE_S,
        "revision 3 running",
    )
    changing.assert_history_whole()


def test_a_strategy_that_cannot_be_loaded_is_rejected_before_the_grant(changing: Cluster) -> None:
    held, before, since = positions(changing), changing.run(NAME), changing.now()
    answer = changing.patch(NAME, {"strategy": "raise_on_load", "config": {}})
    failed = changing.wait_for_handoff(answer["handoff"]["id"], SLOW_MACHINE_S)
    assert failed["state"] == "failed"
    assert "cannot be loaded" in failed["error"]
    rejected, _ = wait_for(
        lambda: changing.revision(NAME, 2),
        lambda r: r["status"] == "rejected",
        SLOW_MACHINE_S,
        "r2 rejected",
    )
    assert "cannot be loaded" in rejected["status_reason"]
    changing.wait_for_progress()
    after = changing.run(NAME)
    assert after.ownership == before.ownership  # the old process kept running
    assert after.revision == 1
    assert "r2 was rejected: " in shown_reason(changing)
    assert "cannot be loaded" in shown_reason(changing)
    assert positions(changing) == held
    # It is not retried.
    assert len(changing.events("handoff_requested", since, portfolio=NAME)) == 1


def test_a_revision_that_fails_at_its_first_event_is_rolled_back(changing: Cluster) -> None:
    held, before = positions(changing), changing.run(NAME)
    changing.patch(NAME, {"strategy": "raise_at", "config": {"at_event": 1}})
    rejected, _ = wait_for(
        lambda: changing.revision(NAME, 2),
        lambda r: r["status"] == "rejected",
        SLOW_MACHINE_S,
        "r2 rejected",
    )
    assert "KeyError" in rejected["status_reason"]
    after, _ = wait_for(
        lambda: changing.run(NAME),
        lambda run: run.revision == 1 and run.phase == "running" and run.last_seq > before.last_seq,
        SLOW_MACHINE_S,
        "revision 1 running again",
    )
    assert after.node == before.node
    assert after.epoch == before.epoch + 2  # one grant for r2, one for r1 again
    assert positions(changing) == held
    changing.wait_for_progress()
    assert "r2 was rejected: " in shown_reason(changing)
    assert "KeyError" in shown_reason(changing)
    assert changing.get(f"/api/portfolios/{NAME}/")["good_revision"] == 1
    changing.assert_history_whole()
