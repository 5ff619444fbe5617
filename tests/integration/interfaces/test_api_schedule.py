"""Balancer, plan, freeze and metrics in the REST API."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from portfolios.runtime.state import Account, State, StrategyPart, encode_state
from scheduling import operations
from scheduling.models import Control, Event, Handoff
from scheduling.permissions import Role
from tests.support.api_client import ApiClient
from tests.support.factories import (
    lose,
    make_node,
    make_portfolio,
    make_running_portfolio,
    newest_handoff,
    owner,
    serving_since,
)
from tests.support.pages import signed_in, text_of


def test_targets_of_a_portfolio_list_every_node_with_its_answer(viewer: ApiClient) -> None:
    first = make_node("node-1")
    make_node("node-2", capacity=3)
    lose(make_node("node-3"))
    make_running_portfolio("canary-1", first)
    answer = viewer.get("schedule/targets/", portfolio="canary-1").json()
    assert (answer["portfolio"], answer["pause_ms"]) == ("canary-1", {"p50": None, "p99": None})
    verdicts = {t["node"]: (t["feasible"], t["code"]) for t in answer["results"]}
    assert verdicts == {
        "node-1": (False, "same_node"), "node-2": (True, None), "node-3": (False, "node_lost"),
    }  # fmt: skip
    for target in answer["results"]:
        fields = {"node", "feasible", "code", "sentence", "risk", "load_before", "load_after"}
        assert set(target) >= fields
        assert target["sentence"]


def test_the_expected_pause_is_computed_from_the_last_moves(viewer: ApiClient) -> None:
    make_running_portfolio("canary-1", make_node("node-1"))
    # 1 … 60 ms; the last 50 are 11 … 60: their median is 35, and 60 is the largest.
    place = Handoff.objects.get()
    for pause in range(1, 61):
        place.pk, place.kind, place.pause_ms, place.release_batch = None, "migrate", pause, None
        place.save()
    answer = viewer.get("schedule/targets/", portfolio="canary-1").json()
    assert answer["pause_ms"] == {"p50": 35.0, "p99": 60.0}


def test_rebalance_request_runs_a_pass_at_once(operator: ApiClient) -> None:
    make_node("node-1")
    make_portfolio("canary-1")
    answer = operator.post("schedule/rebalance/")
    assert answer.status_code == 202
    (handoff,) = answer.json()["requested"]
    document = operator.get(f"handoffs/{handoff}/").json()
    assert (document["target_node"], document["requested_by"]) == ("node-1", "olive")
    assert operator.post("schedule/rebalance/").json()["requested"] == []


def test_api_freezes_and_unfreezes_the_fleet(operator: ApiClient) -> None:
    answer = operator.post("schedule/freeze/", {"reason": "switch upgrade", "failover": True})
    assert answer.status_code == 200
    document = answer.json()
    assert document["frozen"] is True
    assert (document["by"], document["reason"]) == ("olive", "switch upgrade")
    assert document["failover"] is True
    assert operator.get("schedule/plan/").json()["frozen"] is True
    assert operator.post("schedule/unfreeze/").json()["frozen"] is False
    assert Control.objects.get().frozen_at is None
    kinds = Event.objects.filter(actor="olive").values_list("kind", flat=True)
    assert set(kinds) == {"frozen", "unfrozen"}


def test_plan_of_an_empty_fleet_is_empty_and_not_an_error(viewer: ApiClient) -> None:
    assert viewer.get("nodes/").json() == {"next": None, "previous": None, "results": []}
    assert viewer.get("portfolios/").json()["results"] == []
    assert viewer.get("schedule/plan/").json()["load"] == []
    assert viewer.get("feed/").json() == {"head": 0, "length": 92_120, "results": []}
    page = text_of(signed_in(Role.VIEWER, "vic").get("/what-if/"))
    assert "What the next pass would do" in page and "No node has registered yet." in page


def test_metrics_are_read_from_the_database(viewer: ApiClient) -> None:
    make_running_portfolio("canary-1", make_node("node-1"))
    make_portfolio("idle", desired_state="stopped")
    serving_since(60)
    answer = viewer.get("metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    text = answer.content.decode()
    assert 'ginkgo_nodes{status="alive"} 1.0' in text
    assert "ginkgo_gateway_pulse_age_seconds{gateway=" in text
    assert 'ginkgo_portfolios{phase="running"} 1.0' in text
    assert 'ginkgo_portfolios{phase="stopped"} 1.0' in text
    assert 'ginkgo_node_load{node="node-1"} 1.0' in text
    assert 'ginkgo_portfolio_epoch{portfolio="canary-1"} 1.0' in text
    assert "ginkgo_frozen 0.0" in text


def test_metrics_of_running_strategies_are_bounded(
    viewer: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = make_node("node-1")
    account = Account(Decimal(9), Decimal(9), Decimal(0), {}, [], 1)
    for name, metrics in (("a", {"spread": 0.5}), ("b", {"x": 1.0, "y": 2.0}), ("c", {"z": 3.0})):
        make_running_portfolio(name, daemon)
        state = State(account, StrategyPart("canary", 1, {}, {}), metrics=metrics)
        owner(name, daemon).commit(1, state=encode_state(state))
    make_running_portfolio("d", daemon)
    monkeypatch.setattr("scheduling.api.metrics.MAX_STRATEGY_SERIES", 2)
    text = viewer.get("metrics").content.decode()
    assert 'ginkgo_strategy_metric{metric="spread",portfolio="a"} 0.5' in text
    assert 'ginkgo_strategy_metric{metric="z",portfolio="c"} 3.0' in text
    assert 'portfolio="b"} 2.0' not in text
    assert "ginkgo_strategy_metrics_left_out 2.0" in text
    operations.stop("c", actor="ann")
    owner("c", daemon).release(newest_handoff(owner("c", daemon).portfolio))
    assert 'ginkgo_strategy_metric{metric="z"' not in viewer.get("metrics").content.decode()


def test_the_docs_page_loads_nothing_from_other_hosts(db: Any) -> None:
    page = signed_in(superuser=True).get("/api/docs/").content.decode()
    assert "swagger" in page
    assert "http://" not in page.replace("http://testserver", "")
    assert "https://" not in page
    head, body = page.split("</head>")
    assert head.index("dashboard/theme.js") < head.index("ginkgo/api-docs.js")
    assert 'id="swagger-ui"' in body
