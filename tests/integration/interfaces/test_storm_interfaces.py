"""The hold on failover by API, command and dashboard, and where alerts are shown."""

from __future__ import annotations

from typing import Any

import pytest
from django.template.loader import render_to_string

from scheduling import operations
from scheduling.dashboard.board.page import build_board_page
from scheduling.models import Alert, Event, Storm
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.operations.registry import fleet_actions
from scheduling.permissions import Role
from tests.support.api_client import ApiClient
from tests.support.commands import said, told
from tests.support.factories import ago, expire_lease, make_settled_nodes, tick
from tests.support.pages import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def stormy() -> None:
    """Two of three nodes went at once."""
    for node in make_settled_nodes(3)[:2]:
        expire_lease(node)
    tick()


def test_api_extends_and_releases_the_hold_of_failover(stormy: None, operator: ApiClient) -> None:
    held = operator.post("schedule/storm/hold/", {"reason": "switch"}).json()
    found = (held["held"], held["until"], held["by"], held["reason"])
    assert found == (True, None, "olive", "switch")
    assert (held["nodes"], held["of_nodes"]) == (["node-1", "node-2"], 3)
    assert operator.post("schedule/storm/release/", {}).json()["held"] is False
    assert operator.post("schedule/storm/release/", {}).status_code == 200
    assert Event.objects.filter(kind="storm_released", actor="olive").count() == 1


def test_command_shows_extends_and_releases_the_hold_of_failover(stormy: None) -> None:
    assert told("storm")["of_nodes"] == 3
    assert told("storm", "--hold", "--reason", "switch")["until"] is None
    assert told("storm", "--release")["held"] is False


def test_the_status_says_who_holds_failover_and_why(stormy: None) -> None:
    operations.hold_storm(actor="ann", reason="switch [2]")
    sentence = " by ann until an operator releases it: switch [2]; 2 of 3 nodes were"
    assert sentence in said("cluster_status")
    storm = told("cluster_status")["storm"]
    assert (storm["by"], storm["until"], storm["nodes"]) == ("ann", None, ["node-1", "node-2"])


def test_open_alerts_are_listed_and_the_metrics_count_them(stormy: None, viewer: ApiClient) -> None:
    (alert,) = viewer.get("alerts/?open=true").json()["results"]
    assert (alert["kind"], alert["closed_at"], alert["times"]) == ("storm_hold", None, 1)
    assert 'ginkgo_alerts_open{kind="storm_hold"} 1.0' in viewer.get("metrics").text
    assert "ginkgo_failover_held 1.0" in viewer.get("metrics").text
    assert told("cluster_status")["alerts"][0]["kind"] == "storm_hold"
    operations.release_storm(actor="ann")
    tick()
    assert viewer.get("alerts/?open=true&kind=storm_hold").json()["results"] == []
    assert 'ginkgo_alerts_open{kind="storm_hold"} 0.0' in viewer.get("metrics").text


def banners(**context: Any) -> str:
    shown = {"fleet": read_fleet_view(), **context}
    return " ".join(render_to_string("dashboard/parts/banners.html", shown).split())


def test_the_banner_shows_the_hold_and_how_to_release_it(stormy: None) -> None:
    shown = banners(may_act=True)
    assert "2 of 3 nodes were lost at once" in shown
    assert "Release now…" in shown
    assert "Hold longer…" in shown
    assert "Release now" not in banners()
    operations.release_storm(actor="ann")
    assert "data-storm" not in banners(may_act=True)


def test_storm_dialogs_show_the_consequence_and_perform_it(stormy: None) -> None:
    client = signed_in(Role.OPERATOR, "olive")
    for verb, consequence, held in (
        ("hold-storm", fleet_actions.HOLD_STORM.consequence, True),
        ("release-storm", fleet_actions.RELEASE_STORM.consequence, False),
    ):
        assert consequence in client.get(f"/fleet/{verb}/").content.decode()
        assert client.post(f"/fleet/{verb}/", {"reason": "switch"}).status_code == 302
        assert (Storm.objects.get().held_at is not None) is held
        assert Storm.objects.get().until is None
    events = Event.objects.filter(kind__in=("storm_held", "storm_released"), actor="olive")
    assert [event.reason for event in events] == ["switch", "switch"]


def test_the_board_lists_only_alerts_that_it_shows_nowhere_else(stormy: None) -> None:
    Alert.objects.create(kind="passes_stand", key="fleet", reason="no pass", opened_at=ago(1))
    shown = build_board_page(read_fleet_view()).alerts
    assert [alert.sentence for alert in shown] == ["no pass runs"]
