"""Pages open although a node with a token committed a malformed state or reported odd numbers."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.permissions import Role
from scheduling.wire.messages import ProcessStatus
from tests.support.factories import make_node, make_trader
from tests.support.hostile_states import HOSTILE_STATES
from tests.support.pages import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk() -> Client:
    return signed_in(Role.OPERATOR, "ann", raise_request_exception=False)


def test_pages_open_whatever_state_a_node_commits(desk: Client) -> None:
    node = make_node("node-1", capacity=20)
    names = []
    for number, state in enumerate(HOSTILE_STATES.values()):
        names.append(f"p{number}")
        assert make_trader(names[-1], node).commit(state=state) == "ok"
    pages = ["/", "/portfolios/", "/halt/", "/api/portfolios/", "/api/metrics"]
    pages += [f"/portfolios/{name}/" for name in names]
    assert [page for page in pages if desk.get(page).status_code != 200] == []
    states = [f"/api/portfolios/{name}/checkpoint/" for name in names]
    told = [desk.get(state).json() for state in states]
    assert {(problem["status"], problem["code"]) for problem in told} == {(409, "unreadable")}
    assert all(
        f"The state of {name} at" in p["detail"] for name, p in zip(names, told, strict=True)
    )


def status_of(portfolio: int, epoch: int, **given: Any) -> ProcessStatus:
    values: dict[str, Any] = {"revision": 1, "phase": "running", "seq": 0, "lag": 0, **given}
    return ProcessStatus(portfolio=portfolio, epoch=epoch, **values)


@pytest.mark.parametrize("number", [1e308, float("nan")])
def test_pages_open_whatever_numbers_a_node_reports(desk: Client, number: float) -> None:
    node = make_node("node-1", capacity=2**31 - 1)
    hand = make_trader("p", node)
    names = ("cpu_pct", "mem_pct", "rss_mb", "cpu_minute_pct", "portfolios", "x")
    whole = 2**64 - 1 if number > 0 else -(2**63)
    at = hand.run()
    said = [
        status_of(
            at.portfolio_id, at.epoch, seq=whole, lag=whole, pid=whole, stalled_s=number,
            cpu_pct=number, caught_up_ms=number,
        ),
        status_of(whole, whole),
    ]  # fmt: skip
    node.beat(metrics=dict.fromkeys(names, number), portfolios=said, unheard_s=number)
    pages = ["/", "/nodes/", "/nodes/node-1/", "/portfolios/p/", "/what-if/?lose=node-1"]
    pages += ["/api/nodes/", "/api/nodes/node-1/", "/api/portfolios/", "/api/metrics"]
    pages += ["/api/schedule/plan/", "/api/portfolios/p/"]
    assert [page for page in pages if desk.get(page).status_code != 200] == []


def test_process_id_of_a_portfolio_is_the_one_that_its_owner_reports() -> None:
    first, second = make_node("node-1"), make_node("node-2")
    at = make_trader("p", first).run()
    first.beat(portfolios=[status_of(at.portfolio_id, at.epoch, pid=4711)])
    second.beat(portfolios=[status_of(at.portfolio_id, at.epoch, pid=666)])
    assert [shown.pid for shown in read_fleet_view().portfolios] == [4711]
