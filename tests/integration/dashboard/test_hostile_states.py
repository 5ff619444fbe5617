"""A node may commit any bytes as a state. They are shown as unknown, and break no page."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from tests.support.factories import make_node, make_trader
from tests.support.hostile_states import HOSTILE_STATES

pytestmark = pytest.mark.django_db


def test_states_that_a_node_made_up_break_no_page() -> None:
    node = make_node("node-1", capacity=20)
    user = User.objects.create_user("ann", password="a-long-password-1")
    user.groups.add(Group.objects.get_or_create(name="operator")[0])
    client = Client(raise_request_exception=False)
    client.force_login(user)
    names = []
    for number, state in enumerate(HOSTILE_STATES.values()):
        names.append(f"p{number}")
        assert make_trader(names[-1], node).commit(state=state) == "ok"
    pages = ["/", "/portfolios/", "/halt/", "/api/portfolios/", "/api/metrics"]
    pages += [f"/portfolios/{name}/" for name in names]
    assert [page for page in pages if client.get(page).status_code != 200] == []
    states = [f"/api/portfolios/{name}/checkpoint/" for name in names]
    assert [state for state in states if client.get(state).status_code != 404] == []
