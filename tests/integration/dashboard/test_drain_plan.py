"""The preview of a drain in its dialog, in the API and on the command line; its progress."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from portfolios.models import Portfolio
from scheduling import operations
from scheduling.dashboard.views import nodes
from scheduling.db.transaction import execute
from scheduling.enact.lease import record_goodbye
from scheduling.enact.pin import pin
from scheduling.enact.register import register
from scheduling.errors import NotFound
from scheduling.models import Event, Handoff, Node
from scheduling.timing import timing
from tests.support.api_client import problem
from tests.support.commands import said
from tests.support.factories import (
    GATEWAY_ID,
    FakeNode,
    make_node,
    make_running_portfolio,
    newest_handoff,
    owner,
    register_message,
)
from tests.support.pages import DIALOG, text_of
from tests.support.patches import raising

pytestmark = pytest.mark.django_db


def crowded() -> list[FakeNode]:
    """`heavy` on node-1 fits node-2 only once `light` leaves it for node-3."""
    nodes = [make_node("node-1"), make_node("node-2", capacity=4), make_node("node-3", capacity=1)]
    make_running_portfolio("heavy", nodes[0], weight=4)
    make_running_portfolio("light", nodes[1])
    return nodes


def test_drain_dialog_shows_targets_pins_that_end_and_the_effect_of_a_later_node_loss(
    desk: Client,
) -> None:
    first = make_node("node-1")
    gone = make_running_portfolio("gone", first)
    execute(pin(gone.pk, first.row.pk, actor="olive", reason=""))
    make_running_portfolio("here", make_node("node-2"))
    page = text_of(desk.get("/nodes/node-1/drain/", **DIALOG))
    assert "1 portfolio moves, running on until its new node is ready." in page
    assert 'data-portfolio="gone" data-target="node-2"' in page
    assert "The pins of gone end" in page and "its pin ends" in page
    loss = "2 of 2 would have no place if node-2 were lost (now 0)."
    assert page.index(loss) < page.index('name="reason"') < page.index("Drain node-1 </button>")


def test_portfolio_that_no_node_takes_stays_with_its_reason_and_what_would_help(
    desk: Client,
) -> None:
    make_running_portfolio("heavy", make_node("node-1"), weight=4)
    make_node("node-2", capacity=3)
    page = text_of(desk.get("/nodes/node-1/drain/", **DIALOG))
    assert re.search(r'data-portfolio="heavy" data-stays', page)
    assert "1 would stay, since no other node takes it." in page
    assert "Add a node of capacity 4: then all of them leave." in page
    assert 'name="make_room"' not in page
    assert "End the drain of node-1" not in page


def test_drain_dialog_of_a_node_that_was_just_forgotten_is_a_404(
    desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_node("node-1")
    monkeypatch.setattr(nodes, "drain_document", raising(NotFound("node", "node-1")))
    answer = desk.get("/nodes/node-1/drain/", **DIALOG)
    assert (answer.status_code, "named node-1" in text_of(answer)) == (404, True)


def test_drain_makes_room_first_only_if_the_operator_asks_for_it(desk: Client) -> None:
    crowded()
    page = text_of(desk.get("/nodes/node-1/drain/", **DIALOG))
    assert "Make room first (light → node-3): then all of them leave." in page
    chinese = text_of(desk.get("/nodes/node-1/drain/", headers={"Accept-Language": "zh-CN"}))
    assert "1 个将留下，因为没有其他节点能接收。" in chinese
    assert "先腾出空间（light → node-3）" in chinese
    before = Handoff.objects.count()
    desk.post("/nodes/node-1/drain/", {"reason": "kernel update"})
    assert (Handoff.objects.count(), Node.objects.get(name="node-1").draining) == (before, True)
    answer = desk.post("/nodes/node-1/drain/", {"reason": "kernel update", "make_room": "on"})
    assert answer.status_code == 302
    moved = newest_handoff(Portfolio.objects.get(name="light"))
    assert (moved.kind, str(moved.target_node), moved.requested_by) == ("migrate", "node-3", "mira")
    assert "makes room for heavy" in moved.reason
    assert Node.objects.get(name="node-1").drain_reason == "kernel update"


def test_drain_until_return_ends_when_the_daemon_registers_after_a_goodbye(desk: Client) -> None:
    node = make_node("node-1")
    option = "End the drain when the daemon of the node is stopped and then started again"
    assert option in text_of(desk.get("/nodes/node-1/drain/", **DIALOG))
    desk.post("/nodes/node-1/drain/", {"until_return": "on"})
    told = "The drain ends by itself when the daemon of the node is stopped and then started again."
    assert told in text_of(desk.get("/nodes/node-1/"))
    again = register_message(uuid4())
    # It crashed: the drain goes on.
    execute(register(node.row.pk, "node-1", again, timing(), GATEWAY_ID))
    assert Node.objects.get().draining
    node.incarnation = again.incarnation  # type: ignore[assignment]
    execute(record_goodbye(node.row.pk, "node-1", node.incarnation, "stopped"))
    execute(register(node.row.pk, "node-1", register_message(uuid4()), timing(), GATEWAY_ID))
    found = Node.objects.get()
    assert (found.draining, found.drain_until_return, found.drain_actor) == (False, False, "")
    assert Event.objects.get(kind="node_undrained").reason == "its daemon registered again"


def test_drain_stays_after_a_return_if_nobody_asked_for_its_end() -> None:
    node = make_node("node-1")
    operations.drain("node-1", actor="olive")
    execute(record_goodbye(node.row.pk, "node-1", node.incarnation, "stopped"))
    execute(register(node.row.pk, "node-1", register_message(uuid4()), timing(), GATEWAY_ID))
    assert Node.objects.get().draining


def test_drain_progress_counts_what_was_handed_off_since_the_drain_began(desk: Client) -> None:
    first, second = make_node("node-1"), make_node("node-2")
    for name in ("a", "b"):
        make_running_portfolio(name, first)
    operations.drain("node-1", actor="olive")
    assert "0 of 2 handed off" in text_of(desk.get("/nodes/node-1/"))
    hand = owner("a", first)
    handoff = Handoff.objects.get(pk=hand.move_to(second).id)
    second.ready(handoff)
    hand.release(handoff)
    second.commit("a")
    assert "1 of 2 handed off" in text_of(desk.get("/nodes/node-1/"))
    operations.undrain("node-1", actor="olive")
    assert "of 2 handed off" not in text_of(desk.get("/nodes/node-1/"))


def test_api_and_command_show_the_drain_plan_and_drain_by_it(operator: Any, viewer: Any) -> None:
    crowded()
    plan = viewer.get("nodes/node-1/drain-plan/").json()
    assert [entry["portfolio"] for entry in plan["stay"]] == ["heavy"]
    assert [move["portfolio"] for move in plan["room"]["moves"]] == ["light"]
    assert not Node.objects.filter(draining=True).exists()
    problem(viewer.get("nodes/node-9/drain-plan/"), 404, "not_found")
    shown = said("drain_node", "node-1", "--plan")
    assert "heavy stays" in shown and "(--make-room)" in shown
    assert not Node.objects.filter(draining=True).exists()
    body = {"reason": "kernel update", "make_room": True, "until_return": True}
    assert operator.post("nodes/node-1/drain/", body).status_code == 200
    assert Node.objects.get(name="node-1").drain_until_return
    assert Handoff.objects.filter(kind="migrate", target_node__name="node-3").count() == 1
