"""Nodes in the REST API."""

from __future__ import annotations

from scheduling.models import Event
from scheduling.observe.incarnations import digest
from scheduling.operations.tokens import issue_node_token
from tests.support.api_client import ApiClient
from tests.support.factories import lose, make_node, make_running_portfolio


def test_the_node_document_has_every_documented_field(viewer: ApiClient) -> None:
    daemon = make_node("node-1", capacity=7, labels={"zone": "a"})
    make_running_portfolio("canary-1", daemon)
    document = viewer.get("nodes/node-1/").json()
    assert set(document) >= {
        "name", "status", "schedulable", "draining", "capacity", "labels", "portfolios", "load",
        "metrics", "last_heartbeat_at", "lease_expires_at", "incarnation", "host", "pid", "version",
    }  # fmt: skip
    assert document["schedulable"] is True
    assert document == document | {
        "status": "alive", "capacity": 7, "labels": {"zone": "a"}, "portfolios": ["canary-1"],
        "load": 1, "incarnation": digest(daemon.incarnation),  # which a viewer may read
    }  # fmt: skip
    assert document["lease_expires_at"].endswith("Z")


def test_a_lost_node_is_lost_in_its_document_and_in_filtered_lists(viewer: ApiClient) -> None:
    lose(make_node("node-1"))
    make_node("node-2")
    assert viewer.get("nodes/node-1/").json()["status"] == "lost"
    assert viewer.get("nodes/node-1/").json()["schedulable"] is False
    lost = viewer.get("nodes/", status="lost").json()["results"]
    assert [node["name"] for node in lost] == ["node-1"]
    fit = viewer.get("nodes/", schedulable="true").json()["results"]
    assert [node["name"] for node in fit] == ["node-2"]


def test_api_drains_and_undrains_a_node(operator: ApiClient) -> None:
    make_running_portfolio("canary-1", make_node("node-1"))
    for act in ("drain", "disable"):
        answer = operator.post(f"nodes/node-1/{act}/", {"reason": "new kernel"})
        assert answer.status_code == 200
        document = answer.json()
        assert document["draining"] is True
        assert document["schedulable"] is False
        assert (document["drain_reason"], document["drain_actor"]) == ("new kernel", "olive")
        assert document["portfolios"] == ["canary-1"]
        assert operator.post("nodes/node-1/undrain/").json()["draining"] is False
    kinds = Event.objects.filter(node__name="node-1", actor="olive").values_list("kind", flat=True)
    assert set(kinds) == {"node_draining", "node_undrained"}


def test_api_cordons_and_uncordons_a_node_that_never_registered(operator: ApiClient) -> None:
    issue_node_token("node-1", actor="ops")
    document = operator.post("nodes/node-1/cordon/").json()
    assert (document["name"], document["status"]) == ("node-1", "new")
    assert (document["cordoned"], document["schedulable"]) == (True, False)
    assert operator.post("nodes/node-1/uncordon/").json()["cordoned"] is False
