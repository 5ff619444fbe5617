"""An incarnation belongs to one node and is not a credential: only the token identifies a node."""

from __future__ import annotations

from importlib import import_module
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.handoff import handle_prepared, handle_step_failure
from scheduling.enact.register import register
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.models import Event, Lease, Tenure
from scheduling.observe.incarnations import digest
from scheduling.permissions import Role
from scheduling.timing import timing
from tests.support.api_client import ApiClient
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    make_node,
    make_trader,
    newest_handoff,
    register_message,
)
from tests.support.pages import signed_in
from tests.support.refusals import refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def hand() -> OwnerSession:
    return make_trader("p", make_node("node-1"))


def test_report_of_a_node_neither_owner_nor_target_changes_nothing(hand: OwnerSession) -> None:
    target, stranger = make_node("node-2"), make_node("node-3")
    handoff = operations.migrate("p", "node-2", actor="ann")

    def seen() -> tuple[str, str, int, int]:
        at = hand.run()
        return newest_handoff(hand.portfolio).state, at.phase, at.epoch, at.attempts

    before = seen()
    its = target.incarnation
    assert execute(handle_prepared(handoff.pk, stranger.row.pk, its, timing())) == "late"
    failed = handle_step_failure(handoff.pk, stranger.row.pk, its, "prepare", "no", True)
    assert execute(failed) == "late"
    of_owner = OwnerSession(FakeNode(stranger.row, hand.daemon.incarnation), hand.portfolio)
    assert (of_owner.die(), of_owner.halts()) == ("late", "late")
    assert seen() == before
    assert hand.commit() == "ok"


def test_audit_log_names_the_node_that_halted(hand: OwnerSession) -> None:
    assert hand.halts() == "halted"
    lines = Event.objects.filter(portfolio=hand.portfolio, kind__in=("halted", "ended"))
    found = {(line.kind, line.actor) for line in lines}
    assert found == {("halted", "node-1"), ("ended", "node-1")}


def test_an_incarnation_that_another_node_holds_is_refused(hand: OwnerSession) -> None:
    thief = make_node("node-2")
    words = register_message(hand.daemon.incarnation)
    asked = register(thief.row.pk, "node-2", words, timing(), GATEWAY_ID)
    refusal = refused(lambda: execute(asked))
    assert refusal.code == "incarnation_in_use"
    assert refusal.message == (
        "Node node-2 cannot register: another node holds this incarnation. An incarnation belongs "
        "to one start of one daemon; restart the daemon, which draws a new one."
    )
    assert Lease.objects.get(node=thief.row).incarnation == thief.incarnation


def test_database_refuses_one_incarnation_for_two_nodes(hand: OwnerSession) -> None:
    other = make_node("node-2")
    with pytest.raises(IntegrityError), transaction.atomic():
        Lease.objects.filter(node=other.row).update(incarnation=hand.daemon.incarnation)


def test_migration_separates_leases_with_a_shared_incarnation(hand: OwnerSession) -> None:
    other, third = make_node("node-2"), make_node("node-3")
    migration = import_module("scheduling.migrations.0011_unique_incarnations")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'scheduling_lease'::regclass "
            "AND contype = 'u' AND conname LIKE '%incarnation%'"
        )
        (name,) = cursor.fetchone()
        cursor.execute(f'ALTER TABLE scheduling_lease DROP CONSTRAINT "{name}"')
        Lease.objects.filter(node=other.row).update(incarnation=hand.daemon.incarnation)
        cursor.execute(migration.PART)
    left = dict(Lease.objects.values_list("node__name", "incarnation"))
    assert left["node-3"] == third.incarnation
    assert len(set(left.values())) == 3
    assert hand.daemon.incarnation not in left.values()  # which of the two is honest?


def test_a_viewer_reads_a_digest_and_an_operator_the_incarnation(
    hand: OwnerSession, viewer: ApiClient, operator: ApiClient
) -> None:
    whole = str(hand.daemon.incarnation)
    for path in ("nodes/", "nodes/node-1/", "portfolios/p/tenures/", "events/"):
        seen = viewer.get(path).content.decode()
        assert whole not in seen
        assert digest(whole) in seen
        assert whole in operator.get(path).content.decode()


def test_pages_show_a_viewer_only_the_digest_of_an_incarnation(hand: OwnerSession) -> None:
    whole = str(hand.daemon.incarnation)
    pages: dict[Role, str] = {}
    audit: dict[Role, str] = {}
    for role in Role:
        client = signed_in(role, f"page-{role.value}")
        pages[role] = client.get("/nodes/").content.decode()
        audit[role] = client.get("/audit/").content.decode()
    assert whole in pages[Role.OPERATOR]
    assert whole not in pages[Role.VIEWER]
    shown = digest(whole)
    assert shown is not None and shown in pages[Role.VIEWER]
    assert "node-1" in audit[Role.VIEWER]
    assert all(whole not in page for page in audit.values())  # its sentences need none


def test_admin_neither_shows_nor_filters_incarnations_for_a_viewer(hand: OwnerSession) -> None:
    whole = str(hand.daemon.incarnation)
    tenure = Tenure.objects.filter(portfolio=hand.portfolio).latest("id")
    event = Event.objects.filter(kind="granted").latest("id")
    client = signed_in(Role.VIEWER, "vera")
    for row, page in ((tenure, "tenure"), (event, "event")):
        shown = client.get(f"/admin/scheduling/{page}/{row.pk}/change/", follow=True)
        assert shown.status_code == 200
        assert whole not in shown.content.decode()
    asked = client.get(f"/admin/scheduling/tenure/?incarnation__startswith={whole[0]}")
    assert asked.status_code == 400


def test_digest_distinguishes_incarnations_without_revealing_them() -> None:
    one, other = uuid4(), uuid4()
    assert digest(one) == digest(str(one)) != digest(other)
    assert digest(None) is None
    assert str(one)[:8] != digest(one)
