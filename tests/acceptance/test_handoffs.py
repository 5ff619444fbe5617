"""Moves and reloads of a running fleet: nothing lost, nothing twice, hardly a pause."""

from __future__ import annotations

from collections.abc import Callable

from chaos.harness import reference_feed
from chaos.harness.cluster import CANARIES, DEMO_NODES, Cluster, wait_for
from chaos.harness.installation import SLOW_MACHINE_S

MOVES = 50


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def test_the_command_moves_a_portfolio_and_prints_the_handoff(fleet: Cluster) -> None:
    if fleet.run("canary-1").node == "node-2":
        fleet.migrate("canary-1", "node-3")
    before = fleet.run("canary-1")
    handoff = fleet.manage("migrate_portfolio", "canary-1", "--to", "node-2", "--wait", "120")
    assert handoff["state"] == "done"
    assert (handoff["kind"], handoff["target_node"]) == ("migrate", "node-2")
    assert handoff["to_epoch"] == before.epoch + 1
    after = fleet.run("canary-1")
    assert (after.node, after.epoch) == ("node-2", before.epoch + 1)
    assert fleet.get("/api/portfolios/canary-1/")["pinned_node"] == "node-2"
    fleet.assert_canaries_clean()


def test_fifty_moves_in_a_row_lose_nothing(
    fleet: Cluster, record_property: Callable[[str, object], None]
) -> None:
    pauses = []
    for number in range(MOVES):
        name = CANARIES[number % 3]
        done = fleet.migrate(name, fleet.elsewhere(name))
        pauses.append(done["pause_ms"])
    fleet.progress()
    fleet.assert_canaries_clean()
    fleet.assert_history_whole()
    p50, p99 = quantile(pauses, 0.5), quantile(pauses, 0.99)
    print(f"\npause of {MOVES} moves: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    record_property("pause_p50_ms", p50)
    record_property("pause_p99_ms", p99)
    # Twice what the design allows: others may work on this machine.
    assert p50 <= 200
    assert p99 <= 1000


def test_what_a_canary_saw_equals_what_the_feed_tells_everybody(fleet: Cluster) -> None:
    state = fleet.checkpoint("canary-2")["state"]
    first, last = state["first_seq"], state["last_seq"]
    told: list[tuple[int, str, str]] = []
    while len(told) < last - first + 1:
        page = fleet.get(f"/api/feed/?from={first + len(told)}&limit=5000")
        assert page["length"] == len(reference_feed.bars())
        told += [(bar["seq"], bar["symbol"], bar["close"]) for bar in page["results"]]
    seen = told[: last - first + 1]
    assert seen == [reference_feed.event(seq) for seq in range(first, last + 1)]
    assert state["digest"] == reference_feed.digest(seen)


def test_a_move_pauses_nobody_else(fleet: Cluster) -> None:
    # The balancer may even out what four moves have made uneven: not now.
    fleet.call("POST", "/api/schedule/freeze/", {"reason": "test"})
    since = fleet.now()
    for _ in range(4):
        fleet.migrate("canary-3", fleet.elsewhere("canary-3"))
    fleet.progress()
    # A canary's checkpoint is written with every commit, so a pause of two seconds would leave it
    # at least 200 events behind the head.
    ((head, slowest),) = fleet.query(
        "SELECT max(r.last_seq), min(r.last_seq) FROM scheduling_run r"
        " JOIN portfolios_portfolio p ON p.id = r.portfolio_id WHERE p.archived_at IS NULL"
    )
    moved = {row["portfolio"] for row in fleet.events("granted", since)}
    fleet.call("POST", "/api/schedule/unfreeze/", {})
    assert head - slowest < 200
    assert moved == {"canary-3"}


def test_a_move_ends_in_time_when_every_push_is_lost(fleet: Cluster) -> None:
    with fleet.no_pushes():
        began = fleet.now()
        done = fleet.migrate("canary-1", fleet.elsewhere("canary-1"))
        took_s = (fleet.now() - began).total_seconds()
    print(f"\nmove without pushes: {took_s:.1f} s, pause {done['pause_ms']:.0f} ms")
    assert took_s <= 2 * 10
    assert done["pause_ms"] <= 2 * 5000
    fleet.assert_canaries_clean()


def test_a_move_that_cannot_be_is_refused_and_nothing_pauses(fleet: Cluster) -> None:
    before, since = fleet.runs(), fleet.now()
    here = str(before["canary-1"].node)
    for target, status, code in (
        ("node-99", 404, "not_found"),
        (here, 409, "same_node"),
    ):
        answer = fleet.call("POST", "/api/portfolios/canary-1/migrate/", {"target_node": target})
        assert (answer.status, answer.json["code"]) == (status, code), answer.text
    cordoned = fleet.elsewhere("canary-1")
    fleet.call("POST", f"/api/nodes/{cordoned}/cordon/", {})
    answer = fleet.call("POST", "/api/portfolios/canary-1/migrate/", {"target_node": cordoned})
    assert (answer.status, answer.json["code"]) == (409, "node_cordoned"), answer.text
    fleet.progress()
    fleet.assert_nothing_moved(before, since)


def test_a_portfolio_stops_starts_and_goes_on_where_it_was(fleet: Cluster) -> None:
    answer = fleet.call("POST", "/api/portfolios/ge-sma/stop/", {"reason": "test"})
    assert answer.status == 202
    assert fleet.ended(answer.json["id"], SLOW_MACHINE_S)["state"] == "done"
    stopped = fleet.run("ge-sma")
    assert (stopped.node, stopped.phase) == (None, "stopped")
    again = fleet.call("POST", "/api/portfolios/ge-sma/stop/", {})
    assert (again.status, again.json["code"]) == (409, "already_stopped")
    fleet.progress()
    assert fleet.run("ge-sma").last_seq == stopped.last_seq
    answer = fleet.call("POST", "/api/portfolios/ge-sma/start/", {})
    assert answer.status == 202, answer.text
    wait_for(
        lambda: fleet.run("ge-sma"),
        lambda run: run.phase == "running" and run.last_seq > stopped.last_seq,
        SLOW_MACHINE_S,
        "ge-sma running",
    )
    fleet.assert_history_whole()


def test_a_deleted_portfolio_trades_no_more_and_its_name_is_free(fleet: Cluster) -> None:
    body = {"name": "short-lived", "strategy": "buy_and_hold", "symbols": ["IBM"],
            "config": {"quantity": "1"}}  # fmt: skip
    assert fleet.call("POST", "/api/portfolios/", body).status == 201
    wait_for(
        lambda: fleet.run("short-lived"),
        lambda run: run.phase == "running" and run.last_seq > 0,
        2 * 2,
        "first commit of a new portfolio",
    )
    answer = fleet.call("DELETE", "/api/portfolios/short-lived/", {"reason": "test"})
    assert answer.status == 202, answer.text
    assert fleet.ended(answer.json["handoff"]["id"], SLOW_MACHINE_S)["state"] == "done"
    assert fleet.call("GET", "/api/portfolios/short-lived/").status == 404
    old = (
        "SELECT r.node_id, r.phase FROM scheduling_run r JOIN portfolios_portfolio p"
        " ON p.id = r.portfolio_id WHERE p.name = 'short-lived' AND p.archived_at IS NOT NULL"
    )
    assert fleet.query(old) == [(None, "stopped")]
    assert fleet.call("POST", "/api/portfolios/", body).status == 201
    fleet.call("DELETE", "/api/portfolios/short-lived/", {})
    wait_for(
        lambda: fleet.query(old),
        lambda rows: rows == [(None, "stopped")] * 2,
        SLOW_MACHINE_S,
        "both ended",
    )


def test_a_drained_node_hands_everything_off_and_says_so(fleet: Cluster) -> None:
    had, since = fleet.on("node-3"), fleet.now()
    assert had
    answer = fleet.call("POST", "/api/nodes/node-3/drain/", {"reason": "new disk"})
    assert answer.status == 200
    assert (answer.json["draining"], answer.json["schedulable"]) == (True, False)
    _, took_s = wait_for(
        lambda: fleet.node("node-3")["portfolios"],
        lambda left: left == [],
        SLOW_MACHINE_S,
        "node-3 empty",
    )
    print(f"\ndrain of {len(had)} portfolios: {took_s:.1f} s")
    at = since.isoformat().replace("+00:00", "Z")
    handoffs = fleet.get(f"/api/handoffs/?source_node=node-3&limit=100&since={at}")["results"]
    assert {(h["portfolio"], h["kind"], h["state"]) for h in handoffs} == {
        (name, "migrate", "done") for name in had
    }
    assert fleet.events("node_lost", since) == []
    # Nobody comes back while it drains, and somebody does when it may.
    fleet.call("POST", "/api/schedule/rebalance/", {})
    assert fleet.on("node-3") == []
    fleet.call("POST", "/api/nodes/node-3/undrain/", {})
    fleet.call("POST", "/api/schedule/rebalance/", {})
    wait_for(lambda: fleet.on("node-3"), lambda names: names, SLOW_MACHINE_S, "node-3 in use again")
    fleet.wait_until_converged(DEMO_NODES)
    fleet.assert_canaries_clean()
    fleet.assert_history_whole()
