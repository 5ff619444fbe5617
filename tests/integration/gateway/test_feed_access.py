"""A node reads the recorded feeds that its portfolios need, and no other."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling import operations
from scheduling.gateway import feed_reads
from scheduling.models import Run
from scheduling.operations.feeds import NewInstrument, append_rows, create_feed
from scheduling.wire import messages as wire
from tests.support.factories import FakeNode, make_trader
from tests.support.gateway_requests import admitted_node, ask, serve

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_reads, "_admitted", {})
    monkeypatch.setattr(feed_reads, "ADMITTED_S", 0.0)


def read(node: FakeNode, feed: str) -> tuple[int, Any]:
    request = wire.FeedRequest(incarnation=str(node.incarnation), feed=feed, after=0)

    async def scenario() -> Any:
        return await ask("feed/", wire.encode(request), f"token of {node.name}")

    found: tuple[int, Any] = serve(scenario)
    return found


def test_a_node_reads_the_feeds_of_its_portfolios_only() -> None:
    for name in ("mine", "theirs"):
        create_feed(name, [NewInstrument("KO")], actor="test")
        row = {"symbol": "KO", "time": "2026-11-02T10:00:00Z", "price": 60, "quantity": 1}
        append_rows(name, [row])
    node, other = admitted_node("node-1"), admitted_node("node-2")
    make_trader("p", node, events=0, feed="mine")
    make_trader("q", other, events=0, feed="theirs")
    status, answer = read(node, "mine")
    assert (status, len(answer["events"])) == (200, 1)
    for feed in ("theirs", "absent"):
        status, problem = read(node, feed)
        assert (status, problem["code"]) == (403, "not_needed")
        assert problem["message"] == f"No portfolio of node node-1 needs a recorded feed {feed!r}."
    operations.migrate("q", "node-1", actor="ann")  # it prepares, and warms up
    assert read(node, "theirs")[0] == 200
    Run.objects.filter(portfolio__name="p").update(node=None, incarnation=None)
    assert read(node, "mine")[0] == 403
