"""Limits of one node in the gateway: message sizes, queues, bytes of bodies, connections."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from chaos.harness.installation import SLOW_MACHINE_S
from ginkgo_site.http_limits import ABORT
from portfolios.models import Order
from scheduling.gateway import app, auth, node_limits, request_bodies
from scheduling.gateway.app import gateway
from scheduling.gateway.http import RequestRejected
from scheduling.gateway.node_limits import QueueLimit, RequestQueue
from scheduling.gateway.pool import WORK_POOL_SIZE, work_pool
from scheduling.gateway.request_bodies import MAX_COMMIT_BODY, ByteBudget
from scheduling.gateway.request_metrics import REGISTRY
from scheduling.models import Node
from scheduling.wire import messages as wire
from tests.support.api_client import counted_async_statements
from tests.support.factories import FakeNode, make_node, make_trader
from tests.support.gateway_requests import (
    admitted_node,
    ask,
    beat,
    commit,
    commit_request,
    post,
    serve,
)

pytestmark = pytest.mark.django_db(transaction=True)


def a_commit(portfolio: int, **given: Any) -> wire.Commit:
    values = {"portfolio": portfolio, "epoch": 1, "from_seq": 0, "to_seq": 1, "batch": str(uuid4())}
    return wire.Commit(**{**values, **given})


# --- caps ----------------------------------------------------------------------------------------


WHO: dict[str, Any] = {"incarnation": str(uuid4())}
HALF = [wire.EquityLine(1, 1, "1")] * (wire.MAX_LINES // 2 + 1)
LOG_LINES = [wire.LogLine(0, "x")] * (wire.MAX_LOG_LINES + 1)


TOO_MANY: dict[str, tuple[str, msgspec.Struct]] = {
    "201 commits, limit 200":
        ("commit/", wire.CommitRequest(commits=[a_commit(n) for n in range(201)], **WHO)),
    "10,002 orders, fills and other lines, limit 10,000":
        ("commit/", wire.CommitRequest(commits=[a_commit(n, equity=HALF) for n in (1, 2)], **WHO)),
    "501 reports, limit 500":
        ("heartbeat/",
         wire.Heartbeat(have_version=0, reports=[wire.Prepared(handoff=1)] * 501, **WHO)),
    "101 metrics, limit 100":
        ("heartbeat/",
         wire.Heartbeat(have_version=0, metrics={f"m{n}": 1.0 for n in range(101)}, **WHO)),
    "501 lines, limit 500":
        ("log/", wire.LogRequest(
            batch=str(uuid4()), streams=[wire.StreamLines(1, 1, None, LOG_LINES)], **WHO)),
    "501 streams, limit 500":
        ("log/", wire.LogRequest(
            batch=str(uuid4()), streams=[wire.StreamLines(1, 1, None, [])] * 501, **WHO)),
}  # fmt: skip


def test_message_with_too_many_commits_lines_reports_or_metrics_is_rejected(node: FakeNode) -> None:
    for found, (path, message) in TOO_MANY.items():
        status, problem = post(path, message)
        assert (status, problem["code"]) == (413, "payload_too_large"), found
        assert problem["message"] == f"The message has {found}; send fewer at a time."


# --- one bad value among many --------------------------------------------------------------------


def test_commit_that_fails_the_statement_is_found_by_bisection(node: FakeNode) -> None:
    Node.objects.update(capacity=50)
    hands = [make_trader(f"p-{number}", node) for number in range(16)]
    words = [hand.next_commit(1) for hand in hands]
    at = words[5].to_seq
    bad = [wire.FillLine(at, 7, at, 0, "IBM", "buy", "1", "1", 10**15)]  # of an order that is none
    words[5] = hands[5].next_commit(1, fills=bad)
    with counted_async_statements() as seen:
        answers = commit(node, *words)
    text = [answer for answer, _ in answers]
    assert (text.count("ok"), text[5]) == (15, "rejected")
    assert sum("WITH input AS MATERIALIZED" in statement for statement in seen) == 9
    assert Order.objects.count() == 0


# --- turns ---------------------------------------------------------------------------------------


def test_full_request_queue_refuses_its_oldest_request_and_serves_the_others_in_order() -> None:
    async def scenario() -> list[str]:
        queue, text = RequestQueue(QueueLimit(1, 2), "too many"), []

        async def come(name: str) -> None:
            try:
                await queue.acquire()
                text.append(f"{name} in")
            except RequestRejected as declined:
                text.append(f"{name} {declined.status}")

        await queue.acquire()
        queued = [asyncio.create_task(come(name)) for name in "abc"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for _ in "bc":
            queue.release()
            await asyncio.sleep(0)
        queue.release()
        await asyncio.gather(*queued)
        assert queue.active == 0
        return text

    assert asyncio.run(scenario()) == ["a 429", "b in", "c in"]


def test_cancelled_request_passes_its_place_to_the_next_in_the_queue() -> None:
    async def scenario() -> None:
        queue = RequestQueue(QueueLimit(1, 5), "too many")
        await queue.acquire()
        given_up = asyncio.create_task(queue.acquire())
        next_request = asyncio.create_task(queue.acquire())
        await asyncio.sleep(0)
        queue.release()
        given_up.cancel()
        await asyncio.wait([given_up])
        async with asyncio.timeout(SLOW_MACHINE_S):
            await next_request
        queue.release()
        assert queue.active == 0

    asyncio.run(scenario())


async def held(path: str, gate: asyncio.Event, token: str, length: int) -> int:
    """Send headers, and the body only when `gate` is set; return the status."""
    sent: list[Any] = []

    async def receive() -> Any:
        await gate.wait()
        return {"type": "http.request", "body": b"\xc1" * length, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    given = {"authorization": f"Bearer {token}", "content-length": str(length)}
    headers = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "http", "method": "POST", "path": f"/api/agent/{path}", "headers": headers}
    await gateway(scope, receive, send)
    status: int = sent[0]["status"]
    return status


def test_node_with_delayed_bodies_delays_only_itself(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 large bodies three are kept: one is read, and two wait unread."""
    for limit in ("BODY_TIMEOUT_S", "BYTES_WAIT_S"):  # on a slow machine, they would pass first
        monkeypatch.setattr(request_bodies, limit, 600.0)
    neighbour = admitted_node("node-2")
    words = wire.encode(commit_request(neighbour, make_trader("q", neighbour).next_commit(1)))

    async def scenario() -> tuple[int, list[int]]:
        gate = asyncio.Event()
        hostile = [
            asyncio.create_task(held("commit/", gate, "token of node-1", MAX_COMMIT_BODY))
            for _ in range(20)
        ]
        while sum(task.done() for task in hostile) < 16:
            await asyncio.sleep(0.01)
        assert request_bodies.MAX_TOTAL_BODIES - request_bodies._total.free == MAX_COMMIT_BODY
        async with asyncio.timeout(SLOW_MACHINE_S):
            status, _ = await ask("commit/", words, "token of node-2")
        gate.set()
        return status, list(await asyncio.gather(*hostile))

    status, theirs = serve(scenario)
    assert status == 200
    assert sorted(theirs) == [413] * 4 + [429] * 16
    assert_nothing_is_kept()


def assert_nothing_is_kept() -> None:
    found = (node_limits._queues, request_bodies._total.free)
    assert found == ({}, request_bodies.MAX_TOTAL_BODIES)


class Unread:
    """Requests whose answers wait, as a server's do, until `read` is set."""

    def __init__(self, body: bytes) -> None:
        self.read = asyncio.Event()
        self.waiting = self.ended = 0
        self._body = body

    async def ask(self, kind: str = "checkpoint") -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": self._body}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] == 200
            elif not message.get("more_body"):
                self.waiting += 1
                await self.read.wait()

        def end() -> None:
            self.ended += 1

        headers = [(b"authorization", b"Bearer token of node-1")]
        path = f"/api/agent/{kind}/"
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, ABORT: end}
        await gateway(scope, receive, send)


@pytest.fixture
def unread(node: FakeNode) -> Unread:
    """Return requests for a checkpoint of 100 kB."""
    hand = make_trader("p", node)
    assert hand.commit(state=os.urandom(100_000)) == "ok"
    message = wire.CheckpointRequest(incarnation=str(node.incarnation), portfolio=hand.portfolio.pk)
    return Unread(wire.encode(message))


def test_large_answers_occupy_a_place_of_their_node_until_they_are_read(
    node: FakeNode, unread: Unread
) -> None:
    async def scenario() -> None:
        asked = [asyncio.create_task(unread.ask()) for _ in range(6)]
        async with asyncio.timeout(SLOW_MACHINE_S):
            while unread.waiting < 4:
                await asyncio.sleep(0.01)
            queue = node_limits._queues[node.row.pk, "checkpoint"]
            while len(queue._waiting) < 2:
                await asyncio.sleep(0.01)
            assert (queue.active, unread.waiting) == (4, 4)
            unread.read.set()
            await asyncio.gather(*asked)

    serve(scenario)
    assert (unread.waiting, unread.ended, node_limits._queues) == (6, 0, {})


def test_connection_of_a_peer_that_does_not_read_a_large_answer_is_ended(
    unread: Unread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LONGEST_READ_S", 0.05)
    cut_off = {"kind": "checkpoint", "status": "499"}
    count = partial(REGISTRY.get_sample_value, "ginkgo_gateway_request_seconds_count", cut_off)
    before = count() or 0
    serve(unread.ask)
    assert (unread.waiting, unread.ended, node_limits._queues) == (1, 1, {})
    assert count() == before + 1


def test_unread_heartbeat_answer_frees_its_place_after_as_long_as_a_daemon_waits(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", app.logger.name)
    monkeypatch.setattr(app, "LARGE_ANSWER", 0)
    monkeypatch.setattr(app, "LONGEST_READ_S", 0.1)
    monkeypatch.setitem(app.READ_WITHIN_S, "heartbeat", 0.05)
    serve(lambda: Unread(wire.encode(beat(node))).ask("heartbeat"))
    assert "/api/agent/heartbeat/ was not read within 0.05 s" in caplog.text


def test_body_that_does_not_arrive_times_out(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_bodies, "BODY_TIMEOUT_S", 0.05)
    assert serve(lambda: held("commit/", asyncio.Event(), "token of node-1", 1_000)) == 408
    assert_nothing_is_kept()


def test_chunked_body_is_read_completely() -> None:
    coming = iter((b"a", b"b", b"c"))

    async def receive() -> Any:
        await asyncio.sleep(0.001)
        part = next(coming)
        return {"type": "http.request", "body": part, "more_body": part != b"c"}

    async def scenario() -> bytes:
        headers = {b"content-length": b"3"}
        async with request_bodies.RequestBody(1, receive, headers, 100) as body:
            assert request_bodies._total.free == request_bodies.MAX_TOTAL_BODIES - len(body)
        return body

    assert asyncio.run(scenario()) == b"abc"
    assert_nothing_is_kept()


def test_body_with_too_large_content_length_is_not_read(node: FakeNode) -> None:
    never = asyncio.Event()
    assert serve(lambda: held("commit/", never, "token of node-1", MAX_COMMIT_BODY + 1)) == 413


def test_body_that_waits_too_long_for_its_bytes_is_refused_with_503(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_bodies, "BYTES_WAIT_S", 0.05)

    async def scenario() -> None:
        room = ByteBudget(10)
        await room.acquire(8)
        with pytest.raises(RequestRejected) as declined:
            await room.acquire(3)
        assert declined.value.status == 503
        await room.acquire(2)
        assert room.free == 0
        room.release(8)
        room.release(2)
        assert room.free == 10

    asyncio.run(scenario())


def test_one_node_occupies_at_most_three_of_the_five_work_connections(node: FakeNode) -> None:
    neighbour = admitted_node("node-2")
    words = wire.encode(commit_request(neighbour, make_trader("q", neighbour).next_commit(1)))

    async def scenario() -> int:
        async with AsyncExitStack() as stack:
            most = node_limits.LIMITS["work"].active
            for _ in range(most):
                await stack.enter_async_context(node_limits.Admission(node.row.pk, "work"))
                await stack.enter_async_context(work_pool().connection())
            assert most < WORK_POOL_SIZE
            waits = asyncio.create_task(ask("checkpoint/", CHECKPOINT, "token of node-1"))
            async with asyncio.timeout(SLOW_MACHINE_S):
                status, _ = await ask("commit/", words, "token of node-2")
            assert not waits.done()
        assert (await waits)[0] == 409
        return status

    assert serve(scenario) == 200


CHECKPOINT = wire.encode(wire.CheckpointRequest(incarnation=str(uuid4()), portfolio=1))


def test_unknown_tokens_are_looked_up_one_at_a_time_without_delaying_known_ones(
    node: FakeNode,
) -> None:
    async def scenario() -> Any:
        assert (await ask("heartbeat/", wire.encode(beat(node))))[0] == 200
        (at, who), *_ = auth._cache.values()
        auth._cache[next(iter(auth._cache))] = (at - 60, who)  # to be looked up again
        await auth._unknown_tokens.acquire()  # somebody's look-up takes long
        try:
            stranger = asyncio.create_task(ask("heartbeat/", b"", "guess"))
            async with asyncio.timeout(SLOW_MACHINE_S):
                status, _ = await ask("heartbeat/", wire.encode(beat(node)))
            assert not stranger.done()
        finally:
            auth._unknown_tokens.release()
        return status, (await stranger)[0]

    assert serve(scenario) == (200, 401)


def test_answer_to_a_malformed_request_is_delayed_without_delaying_others(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    delay_s, asleep = 1234.5, asyncio.sleep
    monkeypatch.setattr("scheduling.gateway.app.REJECTION_DELAY_S", delay_s)
    neighbour = admitted_node("node-2")

    async def scenario() -> list[str]:
        text: list[str] = []
        answered = asyncio.Event()

        async def until_others_are_answered(seconds: float, *given: Any) -> Any:
            return await (answered.wait() if seconds == delay_s else asleep(seconds, *given))

        monkeypatch.setattr("scheduling.gateway.app.asyncio.sleep", until_others_are_answered)

        async def come(name: str, body: bytes, token: str) -> None:
            status, _ = await ask("heartbeat/", body, token)
            text.append(f"{name} {status}")
            answered.set()

        nonsense = asyncio.create_task(come("nonsense", b"\xc1", "token of node-1"))
        await asyncio.sleep(0)
        after = come("after", wire.encode(beat(node)), "token of node-1")
        beside = come("beside", wire.encode(beat(neighbour)), "token of node-2")
        async with asyncio.timeout(SLOW_MACHINE_S):
            await asyncio.gather(nonsense, after, beside)
        return text

    assert serve(scenario) == ["beside 200", "nonsense 400", "after 200"]


def test_answer_to_fenced_commits_is_delayed(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each writes a line into the audit log, which would otherwise grow at the request rate."""
    neighbour = make_node("node-2")
    hands = [make_trader(f"p-{number}", neighbour) for number in range(3)]
    held: list[float] = []

    async def noted(seconds: float) -> None:
        held.append(seconds)

    monkeypatch.setattr("scheduling.gateway.app.REJECTION_DELAY_S", 1.0)
    monkeypatch.setattr("scheduling.gateway.app.asyncio.sleep", noted)
    answers = commit(node, *(hand.next_commit(1) for hand in hands))
    assert [answer for answer, _ in answers] == ["fenced"] * 3
    assert held == [pytest.approx(0.06)]
