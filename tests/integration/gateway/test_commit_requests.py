"""Commits, releases and reads of checkpoints, each answered by itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from portfolios.models import Order
from scheduling import operations
from scheduling.gateway.request_metrics import REGISTRY
from scheduling.models import Event, Node
from scheduling.wire.messages import CheckpointRequest, Commit, EquityLine, FillLine
from tests.support.api_client import counted_async_statements
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    make_node,
    make_trader,
    newest_handoff,
    order_line,
)
from tests.support.gateway_requests import (
    admitted_node,
    beat,
    commit,
    post,
    post_all,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_owner_reads_the_checkpoint(node: FakeNode) -> None:
    hand = make_trader("p", node)
    hand.commit(2, state=b"held")
    hand.commit(3)
    at = hand.run()
    words = CheckpointRequest(incarnation=str(node.incarnation), portfolio=hand.portfolio.pk)
    _, answer = post("checkpoint/", words)
    found = (answer["epoch"], answer["last_seq"], answer["state_seq"], answer["state"])
    assert found == (at.epoch, at.last_seq, at.last_seq - 3, b"held")


def test_handoff_target_reads_the_checkpoint_while_the_handoff_is_active(node: FakeNode) -> None:
    hand = make_trader("p", node)
    target = admitted_node("node-2")
    handoff = operations.migrate("p", "node-2", actor="ann")
    asked = {"portfolio": hand.portfolio.pk, "handoff": handoff.pk}
    words = CheckpointRequest(incarnation=str(target.incarnation), **asked)
    assert post("checkpoint/", words, token="token of node-2")[0] == 200
    target.fails(handoff)
    status, problem = post("checkpoint/", words, token="token of node-2")
    assert (status, problem["code"]) == (409, "fenced")


def bad_values(at: int) -> dict[str, dict[str, Any]]:
    """Return values that no database can store, of a commit up to seq `at`, by their kind."""
    order, point = order_line(at), EquityLine(at, 10**15, "1")
    return {
        "index": {"orders": [order_line(at, 40_000)]},
        "negative index": {"orders": [order_line(at, -1)]},
        "overflow": {"orders": [order_line(at, quantity="9" * 21)]},
        "long symbol": {"orders": [order_line(at, symbol="X" * 25)]},
        "nul": {"orders": [order_line(at, symbol="A\0B")]},
        "nul in a reason": {"orders": [msgspec.structs.replace(order, reason="\0")]},
        "side": {"orders": [msgspec.structs.replace(order, side="hold")]},
        "status": {"orders": [msgspec.structs.replace(order, status="perhaps")]},
        "twice": {"orders": [order, order]},
        "point twice": {"equity": [point, point]},
        "no number": {"orders": [order_line(at, price="ten")]},
        "not a number": {"orders": [order_line(at, price="NaN")]},
        "infinite": {"equity": [EquityLine(at, 10**15, "Infinity")]},
        "far future": {"equity": [EquityLine(at, 2**62, "1")]},
        "fill of nothing": {"fills": [FillLine(7, 7, at, 0, "IBM", "buy", "1", "1", 10**15)]},
        "fill of a huge seq": {"fills": [FillLine(2**63, 0, at, 0, "IBM", "buy", "1", "1", 1)]},
        "outside": {"orders": [order_line(at + 1)]},
        "before": {"orders": [order_line(at - 1)]},
        "backwards": {"to_seq": at - 5},
        "huge seq": {"to_seq": 2**63},
        "seq that none can follow": {"to_seq": 2**63 - 1},
        "huge epoch": {"epoch": 2**64 - 1},
        "no batch": {"batch": "batch"},
    }


BAD = tuple(bad_values(0))


def bad_words(hand: OwnerSession, kind: str) -> Commit:
    return hand.next_commit(1, **bad_values(hand.run().last_seq + 1)[kind])


def test_every_invalid_commit_is_rejected_alone_without_effect(node: FakeNode) -> None:
    Node.objects.update(capacity=50)
    good, last = make_trader("good", node), make_trader("last", node)
    bad = [make_trader(f"bad-{number}", node) for number in range(len(BAD))]
    before = [hand.run().last_seq for hand in bad]
    words = [bad_words(hand, kind) for hand, kind in zip(bad, BAD, strict=True)]
    with counted_async_statements() as seen:
        answers = commit(node, good.next_commit(2), *words, last.next_commit(2))
    found = {kind: answer for kind, (answer, _) in zip(BAD, answers[1:-1], strict=True)}
    assert found == dict.fromkeys(BAD, "rejected")
    assert [answers[0], answers[-1]] == [("ok", ""), ("ok", "")]
    assert all(detail for _, detail in answers[1:-1])
    assert ([hand.run().last_seq for hand in bad], Order.objects.count()) == (before, 0)
    assert bad[0].commit(1) == "ok"
    # All but the fill of nothing are found before the statement: only that one is looked for.
    assert sum("WITH input AS MATERIALIZED" in statement for statement in seen) == 5


@pytest.mark.parametrize("kind", ["twice", "fill of nothing"])
def test_invalid_release_is_rejected_without_a_grant(node: FakeNode, kind: str) -> None:
    hand = make_trader("p", node)
    target = make_node("node-2")
    handoff = operations.migrate("p", "node-2", actor="ann")
    target.ready(handoff)
    words = msgspec.structs.replace(bad_words(hand, kind), release=handoff.pk)
    assert commit(node, words)[0][0] == "rejected"
    assert newest_handoff(hand.portfolio).state == "draining"
    assert commit(node, hand.release_message(handoff)) == [("handed_over", "")]


def test_duplicate_order_rejects_only_its_own_portfolio(node: FakeNode) -> None:
    hand, neighbour = make_trader("p", node), make_trader("q", node)
    at = hand.run().last_seq + 1
    assert hand.commit(1, orders=[order_line(at)]) == "ok"
    Order.objects.update(seq=at + 1, id=f"{hand.portfolio.uid}-{at + 1}-0")
    twice = hand.next_commit(1, orders=[order_line(at + 1)])
    answers = commit(node, twice, neighbour.next_commit(1))
    assert [answer for answer, _ in answers] == ["rejected", "ok"]
    assert Order.objects.count() == 1


def test_an_empty_request_has_no_results(node: FakeNode) -> None:
    assert commit(node) == []


def test_every_answer_of_the_fence_reaches_the_node(node: FakeNode) -> None:
    hand = make_trader("p", node)
    words = hand.next_commit(1)
    assert commit(node, words) == [("ok", "")]
    assert commit(node, words)[0][0] == "ok"
    assert commit(node, hand.next_commit(1, from_seq=0))[0][0] == "conflict"
    assert commit(node, hand.next_commit(1, epoch=99))[0][0] == "ahead"
    make_node("node-1")
    assert commit(node, hand.next_commit(1, epoch=words.epoch))[0][0] == "fenced"
    assert Event.objects.filter(kind="commit_refused").count() == 1


def test_answers_to_nodes_are_counted_for_prometheus(node: FakeNode) -> None:
    name = "ginkgo_gateway_request_seconds_count"

    def answered(status: str) -> float:
        return REGISTRY.get_sample_value(name, {"kind": "heartbeat", "status": status}) or 0.0

    before = answered("200"), answered("400")
    assert post("heartbeat/", beat(node))[0] == 200
    post_all("heartbeat/", b"\xc1")
    assert (answered("200"), answered("400")) == (before[0] + 1, before[1] + 1)
