"""Portfolios in the REST API: documents, actions and refusals, which change nothing."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from portfolios.models import Portfolio, Revision
from scheduling.observe.fleet_view import read as fleet_read
from tests.support.api_client import ApiClient, fields_of, problem
from tests.support.factories import (
    lose,
    make_buyer,
    make_node,
    make_portfolio,
    make_running_portfolio,
)
from tests.support.patches import note_calls

SMA = {
    "name": "ibm-sma", "strategy": "sma_cross", "symbols": ["IBM"],
    "config": {"fast": 3, "slow": 8, "quantity": "10"},
}  # fmt: skip


def test_portfolios_of_a_lost_node_are_shown_as_pending(viewer: ApiClient) -> None:
    daemon, other = make_node("node-1"), make_node("node-2")
    make_running_portfolio("gone", daemon)
    make_running_portfolio("here", other)
    lose(daemon)
    run = viewer.get("portfolios/gone/").json()["run"]
    assert (run["phase"], run["reason"]) == ("pending", "node-1 is lost")
    assert (run["node"], run["pid"], run["stalled"]) == ("node-1", None, False)
    for phase, name in (("pending", "gone"), ("running", "here")):
        found = viewer.get(f"portfolios/?phase={phase}").json()["results"]
        assert [portfolio["name"] for portfolio in found] == [name]
    assert 'ginkgo_portfolios{phase="running"} 1.0' in viewer.get("metrics").content.decode()


def test_a_created_portfolio_is_returned_and_found_at_its_location(operator: ApiClient) -> None:
    answer = operator.post("portfolios/", {**SMA, "starting_cash": "50000.00", "priority": 2})
    assert answer.status_code == 201
    document = answer.json()
    assert document == document | SMA | {
        "priority": 2, "starting_cash": "50000.0000", "desired_state": "running", "revision": 1,
        "good_revision": None,
        "account": {"cash": None, "equity": None, "pnl": None, "positions": []},
    }  # fmt: skip
    assert (document["run"]["node"], document["run"]["phase"]) == (None, "pending")
    assert document["run"]["reason"]
    where = answer.headers["Location"].partition("/api/")[2]
    assert operator.get(where).json()["name"] == "ibm-sma"


def test_the_portfolio_document_has_every_documented_field(operator: ApiClient) -> None:
    make_buyer("tech-hold", make_node("node-1"), 400, "IBM")
    document = operator.get("portfolios/tech-hold/").json()
    assert set(document) >= {
        "name", "strategy", "config", "symbols", "weight", "priority", "selector", "spread_group",
        "limits", "catch_up", "desired_state", "pinned_node", "revision", "good_revision",
        "first_seq", "run", "account",
    }  # fmt: skip
    assert set(document["run"]) >= {
        "node", "epoch", "phase", "revision", "last_seq", "lag_events", "stalled", "pid",
        "attempts", "reason", "since",
    }  # fmt: skip
    assert set(document["account"]) == {"cash", "equity", "pnl", "positions"}
    run, last_seq = document["run"], document["first_seq"] - 1 + 400
    assert run == run | {"node": "node-1", "phase": "running", "epoch": 1, "last_seq": last_seq}
    assert document["run"]["since"].endswith("Z")
    # Decimals are strings of four places: what was typed or traded is what is read.
    assert document["account"]["cash"] == f"{float(document['account']['cash']):.4f}"


WRONG_FIELDS: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"strategy": 7}, "strategy", "invalid"),
    ({"config": {"fast": 3, "slow": 8, "speed": 1}}, "config.speed", "unknown_parameter"),
    ({"config": {"fast": "three", "slow": 8}}, "config.fast", "wrong_type"),
    ({"config": {"fast": 9, "slow": 8}}, "config.fast", "conflict"),
    ({"config": [1]}, "config", "not_a_dict"),
    ({"symbols": ["NO-SUCH"]}, "symbols", "unknown_symbol"),
    ({"symbols": []}, "symbols", "required"),
    ({"symbols": "IBM"}, "symbols", "not_a_list"),
    ({"symbols": [1]}, "symbols.0", "invalid"),
    ({"name": ""}, "name", "blank"),
    ({"weight": 0}, "weight", "out_of_range"),
    ({"weight": "2"}, "weight", "invalid"),
    ({"weight": True}, "weight", "invalid"),
    ({"weight": 10**12}, "weight", "max_value"),
    ({"starting_cash": 0.1}, "starting_cash", "invalid"),
    ({"starting_cash": "much"}, "starting_cash", "invalid"),
    ({"limits": {"largest_order": "٣"}}, "limits.largest_order", "wrong_type"),
    ({"starting_cash": "1.00001"}, "starting_cash", "places"),
    ({"starting_cash": "1e30"}, "starting_cash", "size"),
    ({"starting_cash": "-5"}, "starting_cash", "out_of_range"),
    ({"catch_up": "never"}, "catch_up", "invalid_choice"),
    ({"limits": {"largest_order": "-1"}}, "limits.largest_order", "out_of_range"),
    ({"limits": {"luck": True}}, "limits.luck", "unknown_limit"),
    ({"limits": {"orders_per_minute": 0}}, "limits.orders_per_minute", "out_of_range"),
    ({"limits": {"orders_per_minute": "7"}}, "limits.orders_per_minute", "wrong_type"),
    ({"limits": {"largest_drawdown_pct": "-1"}}, "limits.largest_drawdown_pct", "out_of_range"),
    ({"limits": {"broker": {"fee": 1}}}, "limits.broker.fee", "unknown_setting"),
    ({"limits": {"broker": {"fee_bps": "-1"}}}, "limits.broker.fee_bps", "out_of_range"),
    ({"limits": {"broker": {"tick_size": 0}}}, "limits.broker.tick_size", "out_of_range"),
    ({"wieght": 2}, "wieght", "unknown_field"),
)


def test_a_wrong_field_is_named_and_nothing_is_created(operator: ApiClient) -> None:
    for change, field, code in WRONG_FIELDS:
        document = problem(operator.post("portfolios/", {**SMA, **change}), 400, "invalid")
        assert fields_of(document) == {field: code}
        assert field in document["detail"]
        assert not Portfolio.objects.exists()


def test_every_wrong_field_is_named_at_once(operator: ApiClient) -> None:
    body = {"strategy": 7, "weight": "2", "wieght": 2}
    document = problem(operator.post("portfolios/", body), 400, "invalid")
    assert fields_of(document) == {
        "name": "required", "strategy": "invalid", "weight": "invalid", "wieght": "unknown_field",
    }  # fmt: skip


def test_a_weight_too_large_for_its_node_is_accepted_with_a_warning(operator: ApiClient) -> None:
    make_running_portfolio("canary-1", make_node("node-1", capacity=5))
    (said,) = operator.patch("portfolios/canary-1/", {"weight": 7}).json()["warnings"]
    assert said.startswith("node-1 now holds 7 of 5 places: its portfolios keep running")
    assert operator.patch("portfolios/canary-1/", {"weight": 5}).json()["warnings"] == []


def test_a_patch_makes_a_revision_and_returns_the_reload(operator: ApiClient) -> None:
    given: dict[str, Any] = {key: value for key, value in SMA.items() if key != "name"}
    make_running_portfolio("ibm-sma", make_node("node-1"), **given)
    Revision.objects.update(status="good")
    answer = operator.patch("portfolios/ibm-sma/", {"config": {"fast": 4, "slow": 9}})
    assert answer.status_code == 202
    document = answer.json()
    assert set(document) == {"portfolio", "handoff", "warnings"}
    assert document["warnings"] == []
    portfolio, handoff = document["portfolio"], document["handoff"]
    assert portfolio["revision_status"] == "unproven"  # its own, not that of r1
    assert (portfolio["revision"], portfolio["config"]) == (2, {"fast": 4, "slow": 9})
    assert (handoff["kind"], handoff["to_revision"]) == ("reload", 2)
    assert handoff["target_node"] == "node-1"


def test_migrate_returns_the_handoff_and_pins(operator: ApiClient) -> None:
    first, _ = make_node("node-1"), make_node("node-2")
    make_running_portfolio("canary-1", first)
    body = {"target_node": "node-2", "reason": "rack maintenance"}
    answer = operator.post("portfolios/canary-1/migrate/", body)
    assert answer.status_code == 202
    handoff = answer.json()
    assert set(handoff) >= {
        "id", "portfolio", "kind", "reason", "requested_by", "source_node", "target_node",
        "from_epoch", "to_epoch", "from_revision", "to_revision", "released_seq", "state", "error",
        "pause_ms", "catchup_ms", "requested_at", "prepared_at", "released_at", "activated_at",
        "finished_at",
    }  # fmt: skip
    assert handoff == handoff | {
        "portfolio": "canary-1", "kind": "migrate", "source_node": "node-1",
        "target_node": "node-2", "reason": "rack maintenance", "requested_by": "olive",
    }  # fmt: skip
    assert operator.get(f"handoffs/{handoff['id']}/").json() == handoff
    assert operator.get("portfolios/canary-1/").json()["pinned_node"] == "node-2"
    assert operator.get("portfolios/canary-1/").json()["handoff"]["id"] == handoff["id"]
    again = problem(operator.post("portfolios/canary-1/reload/"), 409, "handoff_in_progress")
    assert again["handoff"] == handoff["id"]
    assert operator.post("portfolios/canary-1/unpin/").json()["pinned_node"] is None
    make_running_portfolio("canary-2", first)
    body = {"portfolio": "canary-2", "target_node": "node-2"}
    assert operator.post("schedule/migrate/", body).json()["target_node"] == "node-2"


def test_migrate_several_answers_for_each_portfolio(operator: ApiClient) -> None:
    first, _ = make_node("node-1"), make_node("node-2", capacity=1)
    for name in ("canary-1", "canary-2"):
        make_running_portfolio(name, first)
    body = {"portfolios": ["canary-2", "canary-1"], "target_node": "node-2", "reason": "rack"}
    answer = operator.post("schedule/migrate-several/", body)
    assert answer.status_code == 202
    stayed, moved = answer.json()["results"]
    assert (stayed["portfolio"], stayed["handoff"], stayed["code"], stayed["sentence"]) == (
        "canary-2", None, "node_full",
        "canary-2 cannot move to node-2: node-2 is full: load 1 of 1, the portfolio needs 1.",
    )  # fmt: skip
    assert (moved["portfolio"], moved["code"], moved["sentence"]) == ("canary-1", None, None)
    assert (moved["handoff"]["target_node"], moved["handoff"]["reason"]) == ("node-2", "rack")
    wrong = {"portfolios": [], "target_node": "node-2"}
    problem(operator.post("schedule/migrate-several/", wrong), 400, "invalid")


def test_reload_stop_and_start_answer_with_their_handoff(operator: ApiClient) -> None:
    make_running_portfolio("canary-1", make_node("node-1"))
    make_portfolio("idle", desired_state="stopped")
    for name, act, kind in (
        ("canary-1", "reload", "reload"), ("canary-1", "stop", "stop"), ("idle", "start", "place"),
    ):  # fmt: skip
        answer = operator.post(f"portfolios/{name}/{act}/", {"reason": "leak"})
        assert (answer.status_code, answer.json()["kind"]) == (202, kind)
        assert answer.json()["reason"] == "leak"
    assert operator.get("portfolios/canary-1/").json()["desired_state"] == "stopped"


def test_a_start_without_room_is_pending_with_the_reason(operator: ApiClient) -> None:
    make_portfolio("canary-1", desired_state="stopped")
    answer = operator.post("portfolios/canary-1/start/")
    assert answer.status_code == 202
    assert answer.json()["handoff"] is None
    assert answer.json()["portfolio"]["run"]["phase"] == "pending"
    assert answer.json()["portfolio"]["run"]["reason"]


MISSING = (
    "portfolios/nix/", "portfolios/nix/orders/", "portfolios/nix/fills/",
    "portfolios/nix/equity/", "portfolios/nix/tenures/", "portfolios/nix/revisions/",
    "portfolios/nix/checkpoint/", "portfolios/nix/verification/", "nodes/nix/",
    "handoffs/999/", "roll-outs/99/", "schedule/targets/?portfolio=nix",
    "schedule/plan/?lose=nix",
)  # fmt: skip


def test_read_of_a_missing_object_is_not_found(viewer: ApiClient) -> None:
    for path in MISSING:
        problem(viewer.get(path), 404, "not_found")


def test_the_checkpoint_is_decoded_and_belongs_to_its_seq(viewer: ApiClient) -> None:
    portfolio = make_running_portfolio("canary-1", make_node("node-1"), events=3)
    document = viewer.get("portfolios/canary-1/checkpoint/").json()
    assert set(document) >= {"portfolio", "epoch", "revision", "seq", "account", "state"}
    assert (document["seq"], document["epoch"]) == (portfolio.first_seq - 1 + 3, 1)
    counts = {"events": 3, "first_seq": portfolio.first_seq, "gaps": 0, "duplicates": 0}
    assert document["state"] == document["state"] | counts
    assert document["account"]["cash"] == "100000.0000"


def test_there_is_no_checkpoint_before_the_first_commit(viewer: ApiClient) -> None:
    make_portfolio("canary-1")
    said = problem(viewer.get("portfolios/canary-1/checkpoint/"), 404, "not_found")["detail"]
    assert "canary-1" in said
    assert "has not committed yet" in said


def test_digest_of_a_canary_can_be_computed_from_the_feed_of_the_api(viewer: ApiClient) -> None:
    # A head that is past the canary's events: it started when the feed did, some events ago.
    make_running_portfolio("canary-1", make_node("node-1"), events=1)
    state = viewer.get("portfolios/canary-1/checkpoint/").json()["state"]
    (event,) = viewer.get("feed/", **{"from": state["first_seq"], "limit": 1}).json()["results"]
    line = f"{event['seq']} {event['symbol']} {event['close']}"
    assert state["digest"] == sha256(bytes(32) + line.encode()).hexdigest()


def test_portfolios_are_filtered_by_node_phase_and_desired_state(viewer: ApiClient) -> None:
    make_running_portfolio("canary-1", make_node("node-1"))
    make_portfolio("idle", desired_state="stopped")
    for wanted, name in (
        ({"node": "node-1"}, "canary-1"),
        ({"phase": "stopped", "desired_state": "stopped"}, "idle"),
    ):
        found = viewer.get("portfolios/", **wanted).json()["results"]
        assert [portfolio["name"] for portfolio in found] == [name]
    document = problem(viewer.get("portfolios/", phase="asleep"), 400, "invalid")
    assert fields_of(document) == {"phase": "invalid_choice"}


def test_reading_one_portfolio_decodes_no_state_of_another(
    operator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        make_running_portfolio(name, make_node(f"node-{name}"))
    listed = {each["name"]: each for each in operator.get("portfolios/").json()["results"]}
    noted = note_calls(monkeypatch, fleet_read, "decode_new_states")
    told = operator.get("portfolios/two/").json()
    steady = told.keys() - {"at", "head", "lag_events", "run"}
    assert told.keys() == listed["two"].keys()
    assert {key: told[key] for key in steady} == {key: listed["two"][key] for key in steady}
    assert told["run"]["epoch"] == listed["two"]["run"]["epoch"]
    assert operator.post("portfolios/", SMA).status_code == 201
    assert operator.get("portfolios/none/").status_code == 404
    assert [len(rows) for _, rows in noted] == [1, 1, 0]
