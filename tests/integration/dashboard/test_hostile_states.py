"""A node may commit any bytes as a state. They are shown as unknown, and break no page."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from tests.support.factories import make_node, make_trader
from tests.support.hostile_states import HOSTILE_STATES

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", HOSTILE_STATES.values(), ids=HOSTILE_STATES)
def test_a_state_that_a_node_made_up_breaks_no_page(state: bytes) -> None:
    node = make_node("node-1")
    make_trader("neighbour", node)
    hand = make_trader("p", node)
    assert hand.commit(state=state) == "ok"
    user = User.objects.create_user("ann", password="a-long-password-1")
    user.groups.add(Group.objects.get_or_create(name="operator")[0])
    client = Client()
    client.force_login(user)
    pages = ("/", "/portfolios/", "/portfolios/p/", "/halt/", "/api/portfolios/", "/api/metrics")
    assert {page: client.get(page).status_code for page in pages} == dict.fromkeys(pages, 200)
    assert client.get("/api/portfolios/p/checkpoint/").status_code == 404
