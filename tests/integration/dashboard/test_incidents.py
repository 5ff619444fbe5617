"""The page of a node's loss: its cause, each portfolio, what was suppressed, and its export."""

from __future__ import annotations

import csv
import re
from io import StringIO
from typing import Any

import pytest
from django.test import Client

from portfolios.models import Portfolio
from scheduling import operations
from scheduling.db.transaction import execute_autocommit
from scheduling.enact.lease import mark_lost
from scheduling.models import Event, Run, Tenure, Verification
from scheduling.observe.fleet_view import portfolios as portfolio_views
from scheduling.timing import timing
from tests.support.api_client import counted_statements, problem
from tests.support.factories import (
    FakeNode,
    ago,
    expire_lease,
    make_order,
    make_running_portfolio,
    make_settled_nodes,
    newest_handoff,
)
from tests.support.pages import text_of

pytestmark = pytest.mark.django_db


def lose(node: FakeNode) -> int:
    """Lose the node as the sweep does, and return the number of the incident."""
    expire_lease(node)
    (row,) = execute_autocommit(mark_lost(timing()))
    assert row.name == node.name
    return Event.objects.filter(kind="node_lost").latest("id").pk


def fail_over(name: str, target: FakeNode, events: int = 0, *, suppress: bool = False) -> None:
    operations.migrate(name, target.name, actor="mira")
    target.prepare()
    assert target.commit(name, events, suppress=suppress) == "ok"


def failed_over(events: int = 0) -> tuple[FakeNode, FakeNode, int]:
    """Return a lost node, the one to which its portfolio p went, and the number of the incident."""
    first, second = make_settled_nodes(2)
    make_running_portfolio("p", first, events=5)
    number = lose(first)
    fail_over("p", second, events=events)
    return first, second, number


def page_of(reader: Client, number: int) -> str:
    return text_of(reader.get(f"/incidents/{number}/"))


def row_of(page: str, portfolio: str) -> str:
    found = re.search(rf'<tr data-portfolio="{portfolio}".*?</tr>', page)
    assert found
    return found[0]


def test_incident_page_tells_where_each_portfolio_went_and_how_long_it_had_no_owner(
    reader: Client,
) -> None:
    first, second = make_settled_nodes(2)
    for name in ("moved", "waiting"):
        make_running_portfolio(name, first, events=5)
    make_running_portfolio("bystander", second)
    Run.objects.update(last_commit_at=ago(40))
    number = lose(first)
    fail_over("moved", second)
    page = page_of(reader, number)
    assert "1 of 2 portfolios have a new owner; the longest was without one for 4" in page
    assert "1 has no owner yet." in page
    assert 'data-outcome="moved"' in row_of(page, "moved")
    assert re.search(r"4\d s", row_of(page, "moved"))
    assert re.search(r"1 → 2|2 → 3", row_of(page, "moved"))
    assert 'data-outcome="waits"' in row_of(page, "waiting")
    assert re.search(r"4\d s so far", row_of(page, "waiting"))
    assert "without a heartbeat" in page
    assert "bystander" not in page
    assert "not back" in page
    handoff = newest_handoff(Portfolio.objects.get(name="moved"))
    assert f'href="/handoffs/{handoff.pk}/"' in row_of(page, "moved")


def test_time_without_an_owner_is_from_the_last_commit_to_the_first(reader: Client) -> None:
    _, second, number = failed_over()
    Tenure.objects.filter(node=second.row).update(pause_ms=33_100)
    document = reader.get(f"/incidents/{number}/export.json").json()
    (outage,) = document["outages"]
    assert outage["without_owner_s"] == document["longest_without_owner_s"] == 33.1
    assert (outage["outcome"], outage["target_node"]) == ("moved", "node-2")


def test_orders_decided_on_events_of_the_outage_are_counted(reader: Client) -> None:
    _, second, number = failed_over()
    portfolio = Portfolio.objects.get(name="p")
    seq, epoch = Run.objects.get().last_seq, Run.objects.get().epoch
    begun = Tenure.objects.get(node=second.row).first_commit_at
    assert begun is not None
    orders = [("suppressed", ago(10), epoch), ("filled", ago(10), epoch)]
    # And of a later outage, and of an earlier epoch.
    orders += [("suppressed", ago(-3600), epoch), ("suppressed", ago(10), epoch - 1)]
    for place, (status, decided_at, of_epoch) in enumerate(orders):
        given: dict[str, Any] = {"decided_at": decided_at, "committed_at": begun, "node": "node-2"}
        make_order(portfolio, seq + 1 + place, status=status, epoch=of_epoch, **given)
    page = page_of(reader, number)
    assert "1 order was suppressed meanwhile." in page
    assert 'href="/portfolios/p/?status=suppressed"' in row_of(page, "p")


def test_incident_shows_only_verifications_that_went_past_the_change_of_owner(
    reader: Client,
) -> None:
    first, _, number = failed_over(events=3)
    portfolio, last = Portfolio.objects.get(name="p"), Tenure.objects.get(node=first.row).to_seq
    assert last is not None
    asked = {"portfolio": portfolio, "requested_at": ago(9)}
    before = Verification.objects.create(**asked, state="different", to_seq=last)
    assert "different" not in row_of(page_of(reader, number), "p")
    before.delete()
    Verification.objects.create(**asked, state="identical", to_seq=last + 2)
    assert "identical" in row_of(page_of(reader, number), "p")


def test_node_that_is_back_in_time_keeps_its_portfolios(reader: Client) -> None:
    (first,) = make_settled_nodes(1)
    make_running_portfolio("p", first, events=5)
    number = lose(first)
    first.beat()
    page = page_of(reader, number)
    assert "1 was kept: the node was back in time." in page
    assert "back at" in page


def test_each_loss_of_a_node_has_its_own_page(reader: Client) -> None:
    first, _, earlier = failed_over()
    first.beat()
    make_running_portfolio("q", first, events=5)
    later = lose(first)
    assert 'data-portfolio="q"' not in page_of(reader, earlier)
    assert 'data-portfolio="p"' not in page_of(reader, later)
    assert reader.get("/nodes/node-1/incident/")["Location"] == f"/incidents/{later}/"
    handoff = newest_handoff(Portfolio.objects.get(name="p"))
    assert reader.get(f"/handoffs/{handoff.pk}/incident/")["Location"] == f"/incidents/{earlier}/"
    listed = re.findall(r'data-incident="(\d+)"', text_of(reader.get("/incidents/")))
    assert listed == [str(later), str(earlier)]
    assert f'href="/incidents/{later}/"' in text_of(reader.get("/nodes/node-1/"))
    assert 'data-incident="' not in text_of(reader.get("/incidents/?node=node-2"))


def test_exported_incident_has_a_line_for_each_portfolio(reader: Client) -> None:
    first, second = make_settled_nodes(2)
    for name in ("a", "b"):
        make_running_portfolio(name, first, events=5)
    number = lose(first)
    fail_over("a", second)
    answer = reader.get(f"/incidents/{number}/export.csv")
    assert answer["Content-Disposition"] == f'attachment; filename="incident-{number}.csv"'
    rows = list(csv.DictReader(StringIO(answer.content.decode())))
    assert {row["portfolio"]: row["outcome"] for row in rows} == {"a": "moved", "b": "waits"}


def test_unknown_incident_is_not_found(reader: Client) -> None:
    make_settled_nodes(1)
    unknown = ("/incidents/999/", "/incidents/999/export.csv", "/handoffs/999/incident/")
    for address in (*unknown, "/nodes/node-1/incident/"):
        assert reader.get(address).status_code == 404, address
    assert reader.get(f"/incidents/?before={10**25}&node=%00").status_code == 200


def test_incident_pages_need_as_many_statements_for_many_portfolios_as_for_few(
    reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolio_views, "SPARKLINE_INTERVAL_S", 0.0)  # read in each request
    first, second = make_settled_nodes(2)
    for name in ("a", "b", "c"):
        make_running_portfolio(name, first, events=5)
    number = lose(first)
    counts = []
    for names in (("a",), ("b", "c")):
        for name in names:
            fail_over(name, second)
        for address in (f"/incidents/{number}/", "/incidents/"):
            reader.get(address)
            with counted_statements() as seen:
                reader.get(address)
            counts.append(len(seen))
    assert counts[:2] == counts[2:]


def test_api_lists_incidents_with_the_outage_of_each_portfolio(viewer: Any) -> None:
    _, _, number = failed_over()
    (row,) = viewer.get("incidents/").json()["results"]
    assert (row["id"], row["node"], row["portfolios"], row["placed"]) == (number, "node-1", 1, 1)
    (outage,) = viewer.get(f"incidents/{number}/").json()["outages"]
    assert (outage["outcome"], outage["from_epoch"] + 1) == ("moved", outage["to_epoch"])
    assert viewer.get("incidents/", node="node-2").json()["results"] == []
    for unknown in (999, 10**25):
        problem(viewer.get(f"incidents/{unknown}/"), 404, "not_found")
