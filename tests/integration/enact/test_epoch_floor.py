"""After a restore: grants of the lost history are fenced, and every portfolio continues."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from scheduling import operations
from scheduling.models import Event, Handoff, Lease, Node, NodeToken, Run
from tests.support.api_client import ApiClient, problem
from tests.support.commands import said, told
from tests.support.factories import expire_lease, lose, make_node, make_portfolio, make_trader

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("honest_history")]


def raise_floor(by: int) -> dict[str, tuple[int, int]]:
    """Raise the epoch floor. Return the name of each portfolio → its epoch before and after."""
    lines = operations.raise_epoch_floor(by, actor="olive")
    return {line.portfolio: (line.epoch_before, line.epoch) for line in lines}


def test_epoch_floor_raises_every_epoch_and_ends_every_ownership() -> None:
    node = make_node("node-1")
    make_trader("one", node)
    make_trader("two", node)
    make_portfolio("waiting")
    operations.halt_all(actor="olive")
    operations.undo_halt(actor="olive")
    before = dict(Run.objects.values_list("portfolio__name", "epoch"))
    assert raise_floor(1000) == {name: (epoch, epoch + 1000) for name, epoch in before.items()}
    assert not Run.objects.filter(node__isnull=False).exists()
    assert set(Run.objects.values_list("phase", flat=True)) == {"pending"}


def test_epoch_granted_in_the_lost_history_is_fenced() -> None:
    hand = make_trader("one", make_node("node-1"))
    lost = hand.next_commit(3, epoch=hand.run().epoch + 7)
    assert hand.send(lost).answer == "ahead"
    raise_floor(1000)
    assert hand.send(lost).answer == "fenced"


def test_running_daemon_registers_again_and_drops_its_desired_set() -> None:
    node = make_node("node-1")
    make_trader("one", node)
    raise_floor(1000)
    answer = node.beat()
    assert not answer.renewed
    assert answer.held_by is None  # so it hears `unknown`, and registers again
    assert Node.objects.get().status == "left"
    assert make_node("node-1").owns() == []


def test_a_daemon_that_started_after_the_backup_is_not_told_that_it_was_superseded() -> None:
    node = make_node("node-1")
    raise_floor(1000)
    assert replace(node, incarnation=uuid4()).beat().held_by is None


def test_epoch_floor_leaves_stopped_and_deleted_portfolios_stopped() -> None:
    node = make_node("node-1")
    make_trader("stopping", node)
    make_trader("deleted", node)
    operations.stop("stopping", actor="olive")
    operations.delete_portfolio("deleted", actor="olive")
    raise_floor(1000)
    assert set(Run.objects.values_list("phase", flat=True)) == {"stopped"}


def test_epoch_floor_ends_handoffs_and_skips_their_ids() -> None:
    make_trader("one", make_node("node-1"))
    make_node("node-2")
    moving = operations.migrate("one", "node-2", actor="olive")
    raise_floor(1000)
    moving.refresh_from_db()
    assert moving.state == "superseded"
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('scheduling_handoff', 'id'))")
        assert cursor.fetchone()[0] > moving.pk + 1000  # type: ignore[index]


def test_epoch_floor_writes_one_event_per_portfolio_and_one_for_itself() -> None:
    make_trader("one", make_node("node-1"))
    raise_floor(1000)
    assert Event.objects.filter(kind="ended", data__cause="floor").count() == 1
    (act,) = Event.objects.filter(kind="epoch_floor_raised")
    assert (act.actor, act.data["by"]) == ("olive", 1000)


def test_command_names_the_epochs_before_and_after() -> None:
    make_trader("one", make_node("node-1"))
    epoch = Run.objects.get().epoch
    document = told("raise_epoch_floor", "--by", "50")
    assert document["results"] == [{"portfolio": "one", "epoch_before": epoch, "epoch": epoch + 50}]
    assert (document["highest_before"], document["lowest_now"]) == (epoch, epoch + 50)
    with pytest.raises(CommandError):
        call_command("raise_epoch_floor", "--by", "0")


def test_a_node_is_not_forgotten_while_its_lease_is_valid(operator: ApiClient) -> None:
    make_node("node-1")
    found = problem(operator.delete("nodes/node-1/"), 409, "lease_valid")
    assert "stop its daemon first" in found["detail"]


def test_a_node_is_not_forgotten_while_it_owns_anything(operator: ApiClient) -> None:
    node = make_node("node-1")
    make_trader("one", node)
    lose(node)
    assert problem(operator.delete("nodes/node-1/"), 409, "node_owns")["portfolios"] == ["one"]


def test_a_node_is_not_forgotten_while_a_handoff_names_it(operator: ApiClient) -> None:
    make_trader("one", make_node("node-1"))
    target = make_node("node-2")
    operations.migrate("one", "node-2", actor="olive")
    expire_lease(target)
    problem(operator.delete("nodes/node-2/"), 409, "handoff_in_progress")
    assert Handoff.objects.filter(state="preparing").exists()


def test_a_forgotten_node_leaves_the_lists_and_its_history_keeps_the_name(
    operator: ApiClient,
) -> None:
    node = make_node("node-1")
    NodeToken.objects.create(node=node.row, sha256="a" * 64)
    make_trader("one", node)
    operations.halt_all(actor="olive")
    lose(node)
    assert operator.delete("nodes/node-1/", {"reason": "scrapped"}).status_code == 204
    assert operator.get("nodes/").json()["results"] == []
    problem(operator.get("nodes/node-1/"), 404, "not_found")
    problem(operator.delete("nodes/node-1/"), 404, "not_found")
    assert operator.get("portfolios/one/tenures/").json()["results"][0]["node"] == "node-1"
    assert NodeToken.objects.get().revoked_at is not None
    assert not Lease.objects.exists()
    said("create_node_token", "node-1")
    assert operator.get("nodes/node-1/").json()["status"] == "new"
    assert make_node("node-1").row.status == "alive"


def test_a_viewer_may_not_forget_a_node(viewer: ApiClient) -> None:
    lose(make_node("node-1"))
    problem(viewer.delete("nodes/node-1/"), 403, "forbidden")
    assert Lease.objects.exists()


def test_revoking_a_nodes_tokens_leaves_none_that_works() -> None:
    node = make_node("node-1")
    for letter in "ab":
        NodeToken.objects.create(node=node.row, sha256=letter * 64)
    shown = said("revoke_node_token", "node-1", "--reason", "leaked")
    assert shown == "2 tokens of node-1 are revoked.\n"
    assert not NodeToken.objects.filter(revoked_at=None).exists()
    assert Event.objects.filter(kind="node_token_revoked", reason="leaked").count() == 2
    with pytest.raises(CommandError, match="There is no node named node-9"):
        call_command("revoke_node_token", "node-9")


def test_a_program_with_a_revoked_token_is_refused(operator: ApiClient) -> None:
    assert operator.get("nodes/").status_code == 200
    assert said("revoke_api_token", "olive") == "1 token of olive is revoked.\n"
    problem(operator.get("nodes/"), 401, "unauthenticated")
