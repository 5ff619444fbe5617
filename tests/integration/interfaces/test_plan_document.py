"""The figures in the document of a plan are those of the fleet and its settings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from ginkgo_site.env import read_environment
from scheduling import operations
from tests.support.api_client import ApiClient
from tests.support.factories import FakeNode, ago, expire_lease, lose, make_node, make_portfolio

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("crowded")]

PLAN = "schedule/plan/"


def test_the_plan_counts_stuck_and_pending_portfolios_and_suspects(
    viewer: ApiClient, crowded: list[FakeNode]
) -> None:
    make_portfolio("gpu", selector={"gpu": "yes"})
    expire_lease(crowded[1])  # nobody has marked it: it is suspect
    document = viewer.get(PLAN, drain="node-1").json()
    verdict = document["verdict"]
    assert (verdict["move"], verdict["stay"], verdict["pending_already"]) == (1, 2, 1)
    assert verdict["suspects_counted"] == ["node-2"]
    assert document["drain"] == ["node-1"]
    stuck = {entry["portfolio"]: entry["reason"] for entry in document["stuck"]}
    assert stuck.keys() == {"one", "two"}
    assert all(stuck.values())
    (move,) = document["move"]
    assert move == move | {"source_node": "node-1", "target_node": "node-2", "cause": "drain"}


def test_waiting_portfolios_are_counted_and_a_freeze_is_named(viewer: ApiClient) -> None:
    assert viewer.get(PLAN).json()["frozen"] is False
    operations.freeze(actor="cast", failover=True)
    document = viewer.get(PLAN, lose="node-2").json()
    assert document["frozen"] is True
    verdict = document["verdict"]
    assert (verdict["wait"], verdict["move"], verdict["without_owner"]) == (1, 0, None)
    assert [(words["text"], words["tone"]) for words in verdict["words"]] == [
        ("1 portfolio would wait", "warn"), (".", ""),
    ]  # fmt: skip


def test_placements_and_failovers_are_counted_separately(viewer: ApiClient) -> None:
    operations.uncordon("node-3", actor="cast")
    make_portfolio("new", weight=2)
    document = viewer.get(PLAN, lose="node-2").json()
    verdict = document["verdict"]
    assert (verdict["place"], verdict["move"], verdict["no_place"]) == (1, 1, 0)
    assert verdict["without_owner"]["portfolios"] == 1
    (placed,) = document["place"]
    assert (placed["portfolio"], placed["weight"], placed["code"]) == ("new", 2, "place")
    (move,) = document["move"]
    assert (move["source_node"], move["cause"]) == ("node-2", "failover")


def test_storm_and_time_without_owner_in_a_what_if_answer_follow_the_settings(
    viewer: ApiClient, settings: Any
) -> None:
    asked = {"lose": "node-1,node-2"}
    operations.uncordon("node-3", actor="cast")
    verdict = viewer.get(PLAN, **asked).json()["verdict"]
    assert verdict["storm"] is True
    assert any("failover is first held for 30 s" in note for note in verdict["notes"])
    limits = {"GINKGO_SOCKET_GRACE_S": "7", "GINKGO_LEASE_TTL_S": "60"}
    settings.GINKGO = read_environment({"GINKGO_STORM_FRACTION": "0.9", **limits})
    verdict = viewer.get(PLAN, **asked).json()["verdict"]
    assert verdict["storm"] is False
    # The lease and 3 s more; after a kill the grace and 2 s more.
    budget = verdict["without_owner"]
    assert (budget["by_silence_s"], budget["by_kill_s"]) == (63.0, 9.0)
    everything = viewer.get(PLAN, lose="node-1,node-2,node-3").json()["verdict"]
    assert any("failover is first held for 60 s" in note for note in everything["notes"])


def test_every_node_is_shown_as_the_scenario_assumes(viewer: ApiClient) -> None:
    lose(make_node("node-4"))
    document = viewer.get(PLAN, drain="node-1").json()
    loads = {load.pop("node"): load for load in document["load"]}
    still = {"status": "alive", "cordoned": False, "draining": False}
    draining, cordoned = still | {"draining": True}, still | {"cordoned": True}
    assert loads["node-1"] == {**draining, "capacity": 5, "before": 3.0, "after": 2.0}
    assert loads["node-2"] == {**still, "capacity": 2, "before": 1.0, "after": 2.0}
    assert loads["node-3"] == {**cordoned, "capacity": 3, "before": 0.0, "after": 0.0}
    assert loads.get("node-4", {"status": "lost"})["status"] == "lost"
    taken_at = document["taken_at"]
    assert taken_at.endswith("Z")
    assert ago(60) < datetime.fromisoformat(taken_at) < ago(-60)


def test_reasons_are_in_the_language_of_the_request(viewer: ApiClient) -> None:
    make_node("node-4", capacity=1)
    make_portfolio("new")
    make_portfolio("gpu", selector={"gpu": "yes"})
    said = []
    for caller in (viewer, viewer.preferring("zh-CN")):
        document = caller.get(PLAN, drain="node-1").json()
        entries = [document[bucket][0] for bucket in ("place", "move", "pending", "stuck")]
        said.append([(entry["code"], entry["reason"]) for entry in entries])
    for (code, english), (same_code, chinese) in zip(*said, strict=True):
        assert code == same_code
        assert english.isascii() or "→" in english
        assert any("\u4e00" <= character <= "\u9fff" for character in chinese), chinese
