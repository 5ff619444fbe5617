"""The page of a node: what it runs, its history, labels and tokens, and how it is started."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.register import register
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Event, Node, NodeToken
from scheduling.operations.tokens import issue_node_token
from scheduling.permissions import Role
from scheduling.timing import timing
from tests.support.api_client import problem
from tests.support.factories import FakeNode, make_node, make_running_portfolio, register_message
from tests.support.pages import DIALOG, signed_in, text_of

pytestmark = pytest.mark.django_db


def start_again(node: FakeNode, labels: dict[str, str]) -> None:
    """Let the daemon register again with these labels, as one that was restarted does."""
    message = register_message(node.incarnation, labels=labels)
    execute(register(node.row.pk, node.name, message, timing(), GATEWAY_ID))


def test_node_page_shows_portfolios_events_and_the_start_command(desk: Client) -> None:
    make_running_portfolio("p", make_node("node-1", labels={"zone": "a"}), events=3)
    operations.cordon("node-1", actor="olive", reason="kernel update")
    page = text_of(desk.get("/nodes/node-1/"))
    assert re.search(r'data-portfolio="p" data-phase="running"', page)
    assert "kernel update" in page
    assert "its daemon registered" in page
    line = (
        "bin/node --server http://testserver --token-file node-1.token --name node-1 "
        "--capacity 5 --label zone=a"
    )
    assert line in page
    assert "If a daemon is already running, stop it first with Ctrl-C" in page
    assert page.count("<h1") == page.count("<main") == 1


def test_open_node_page_has_a_place_for_a_drain_that_begins_or_ends(desk: Client) -> None:
    make_node("node-1")
    place = r'<div id="node-drain" data-refresh( hidden)?>'
    (hidden,) = re.findall(place, text_of(desk.get("/nodes/node-1/")))
    operations.drain("node-1", actor="olive")
    draining = text_of(desk.get("/nodes/node-1/"))
    (shown,) = re.findall(place, draining)
    assert (hidden, shown, "0 of 0 handed off" in draining) == (" hidden", "", True)


def test_labels_that_an_operator_gave_outlive_a_restart_of_the_daemon(desk: Client) -> None:
    node = make_node("node-1", labels={"zone": "a", "gpu": "yes"})
    answer = desk.post("/nodes/node-1/labels/", {"labels": "zone=b\ndisk=ssd", "reason": "moved"})
    assert answer.status_code == 302
    start_again(node, {"zone": "a", "gpu": "yes", "rack": "7"})
    assert Node.objects.get().labels == {"zone": "b", "disk": "ssd", "rack": "7"}
    page = text_of(desk.get("/nodes/node-1/"))
    assert "by an operator; its daemon says a" in page
    assert '<s class="muted">gpu=yes</s>' in page
    line = Event.objects.get(kind="node_labelled")
    assert (line.reason, line.data["before"]) == ("moved", {"zone": "a", "gpu": "yes"})


MALFORMED_LABELS = (
    ("zone", "zone is not KEY=VALUE"),
    ("zone=a zone=b", "zone is given twice"),
    ("zone=", "is not a label: use KEY=VALUE"),
    ("zone=" + "a" * 81, "give 80 at most"),
    (" ".join(f"k{n}=v" for n in range(51)), "would have 51 labels; 50 at most are allowed"),
)


def test_malformed_label_keeps_what_was_typed(desk: Client) -> None:
    make_node("node-1", labels={"rack": "7"})
    for typed, said in MALFORMED_LABELS:
        answer = desk.post("/nodes/node-1/labels/", {"labels": typed}, **DIALOG)
        assert answer.status_code == 400
        assert said in text_of(answer)
        assert typed.split()[0] in text_of(answer)
        assert Node.objects.get().labels == {"rack": "7"}


def test_label_form_names_the_portfolios_that_need_a_label(desk: Client) -> None:
    make_running_portfolio("p", make_node("node-1", labels={"gpu": "yes"}), selector={"gpu": "yes"})
    assert "runs here and needs gpu=yes" in text_of(desk.get("/nodes/node-1/labels/", **DIALOG))


def test_node_token_is_shown_once_and_only_its_hash_is_kept(desk: Client) -> None:
    make_node("node-1")
    answer = desk.post("/nodes/node-1/new-token/", {"token_name": "rack 7", "days": "30"})
    (token,) = re.findall(r'id="token-text">([^<]+)<', text_of(answer))
    stored = NodeToken.objects.get()
    assert (stored.name, stored.created_by) == ("rack 7", "mira")
    assert stored.expires_at is not None
    assert f"echo {token} &gt;node-1.token) &amp;&amp; bin/node" in text_of(answer)
    page = text_of(desk.get("/nodes/node-1/"))
    assert "rack 7" in page
    assert token not in page


def test_node_is_added_with_its_first_token_and_has_a_page_before_it_registers(
    desk: Client,
) -> None:
    answer = desk.post("/add-node/", {"node": "node-9", "capacity": "8"})
    assert "--name node-9 --capacity 8" in text_of(answer)
    assert "waits for its daemon to register" in text_of(desk.get("/nodes/node-9/"))
    assert desk.post("/nodes/node-9/forget/")["Location"] == "/nodes/"
    assert desk.get("/nodes/node-9/").status_code == 404


def test_node_with_a_bad_or_a_taken_name_is_not_added(desk: Client) -> None:
    make_node("node-1")
    for name in ("bad name", "", "node-1"):
        answer = desk.post("/add-node/", {"node": name, "capacity": "5"})
        assert answer.status_code in (400, 409)
        assert 'data-field="node"' in text_of(answer)
        assert not NodeToken.objects.exists()


def test_node_token_is_revoked_with_a_reason(desk: Client) -> None:
    make_node("node-1")
    issue_node_token("node-1", actor="olive")
    number = NodeToken.objects.get().pk
    answer = desk.post(f"/nodes/node-1/tokens/{number}/revoke/", {"reason": "leaked"})
    assert answer.status_code == 302
    assert NodeToken.objects.get().state == "revoked"
    assert Event.objects.get(kind="node_token_revoked").reason == "leaked"
    assert desk.get(f"/nodes/node-2/tokens/{number}/revoke/").status_code == 404


def test_viewer_sees_no_token_and_no_action() -> None:
    make_node("node-1")
    issue_node_token("node-1", actor="olive")
    viewer = signed_in(Role.VIEWER)
    page = text_of(viewer.get("/nodes/node-1/"))
    for absent in ("Tokens", "Drain…", "Edit…", "bin/node"):
        assert absent not in page
    for address in ("/nodes/node-1/labels/", "/nodes/node-1/new-token/", "/add-node/"):
        assert viewer.post(address).status_code == 403


def test_api_creates_and_revokes_node_tokens(operator: Any) -> None:
    make_node("node-1")
    issued = operator.post("node-tokens/", {"node": "node-1", "name": "rack 7", "days": 3})
    assert issued.status_code == 201
    (row,) = operator.get("node-tokens/").json()["results"]
    assert (row["name"], row["state"]) == ("rack 7", "valid")
    assert issued.json()["token"] not in str(row)
    assert operator.delete(f"node-tokens/{row['id']}/", {"reason": "lost"}).status_code == 204
    assert NodeToken.objects.get().state == "revoked"
    missing = problem(operator.delete("node-tokens/999999/"), 404, "not_found")
    assert missing["detail"] == "There is no node token 999999."
