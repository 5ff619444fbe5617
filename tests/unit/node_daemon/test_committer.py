"""The committer: no commit stays in its queue."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, cast

import msgspec

from scheduling.node_daemon.committer import MAX_REQUEST_BYTES, Committer
from scheduling.node_daemon.control_plane_client import ControlPlaneClient
from scheduling.node_daemon.outbox import MAX_REPORTS_PER_HEARTBEAT, Outbox
from scheduling.wire import messages as wire


class Link:
    """A server that records requests, and answers those of portfolios that are not `held`."""

    def __init__(self, held: set[int] | None = None) -> None:
        self.held = held or set()
        self.requests: list[wire.CommitRequest] = []
        self.sizes: list[int] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.committer = Committer(cast(ControlPlaneClient, self), "incarnation")

    async def commit(self, body: bytes) -> wire.CommitAnswers:
        request = msgspec.msgpack.decode(body, type=wire.CommitRequest)
        self.requests.append(request)
        self.sizes.append(len(body))
        await asyncio.sleep(0)
        await self.may_answer.wait()
        answered = [c.portfolio for c in request.commits if c.portfolio not in self.held]
        return wire.CommitAnswers(
            results=[wire.CommitResult(portfolio=p, answer="ok") for p in answered]
        )


def _commit(portfolio: int, seq: int) -> wire.Commit:
    return wire.Commit(
        portfolio=portfolio, epoch=1, from_seq=seq, to_seq=seq + 1, batch=str(uuid.uuid4())
    )


async def _until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_commit_queued_while_the_last_sender_ends_is_sent() -> None:
    """On a node with no other commit, it would wait indefinitely."""
    client = Link()
    committer = client.committer
    client.may_answer.clear()

    async def feed(portfolio: int, commits: int) -> None:
        for seq in range(commits):
            await committer.commit(_commit(portfolio, seq))

    first = asyncio.create_task(feed(1, 2))
    await _until(lambda: len(client.requests) == 1)
    second = asyncio.create_task(feed(2, 1))
    await _until(lambda: len(client.requests) == 2)
    client.may_answer.set()
    async with asyncio.timeout(60):
        await asyncio.gather(first, second)
    await committer.close()


async def test_commits_left_out_of_an_answer_are_repeated_without_delaying_others() -> None:
    """More of them than concurrent requests are allowed."""
    client = Link(held={1, 2, 3})
    committer = client.committer
    held = {n: _commit(n, 0) for n in (1, 2, 3)}
    waiting = {n: asyncio.create_task(committer.commit(c)) for n, c in held.items()}
    await _until(lambda: len(client.requests) > 6)
    for seq in range(20):
        async with asyncio.timeout(60):
            assert (await committer.commit(_commit(4, seq))).answer == "ok"
    assert not any(task.done() for task in waiting.values())
    client.held.clear()
    async with asyncio.timeout(60):
        assert [(await task).answer for task in waiting.values()] == ["ok"] * 3
    sent = [c for request in client.requests for c in request.commits if c.portfolio < 4]
    assert len(sent) > 6
    assert all(c == held[c.portfolio] for c in sent)
    await committer.close()


async def test_closed_committer_repeats_nothing() -> None:
    client = Link(held={1})
    committer = client.committer
    waiting = asyncio.create_task(committer.commit(_commit(1, 0)))
    await _until(lambda: len(client.requests) == 2)
    await committer.close()
    sent = len(client.requests)
    await asyncio.sleep(0.3)
    assert len(client.requests) == sent
    waiting.cancel()


async def _send_all(commits: list[wire.Commit]) -> Link:
    link = Link()
    answers = await asyncio.gather(*(link.committer.commit(commit) for commit in commits))
    assert [answer.portfolio for answer in answers] == [c.portfolio for c in commits]
    await link.committer.close()
    return link


async def test_commits_share_requests_up_to_the_limit_of_one() -> None:
    link = await _send_all([_commit(portfolio, 0) for portfolio in range(450)])
    assert wire.MAX_COMMITS == 200
    assert [len(request.commits) for request in link.requests] == [200, 200, 50]


async def test_request_never_exceeds_the_line_limit() -> None:
    lines = [wire.EquityLine(1, 1, "1")] * (wire.MAX_LINES // 3)
    link = await _send_all([msgspec.structs.replace(_commit(p, 0), equity=lines) for p in range(7)])
    assert [len(request.commits) for request in link.requests] == [3, 3, 1]


async def test_large_states_are_sent_in_separate_requests() -> None:
    state = b"s" * 3_000_000
    link = await _send_all([msgspec.structs.replace(_commit(p, 0), state=state) for p in range(3)])
    assert max(link.sizes) < MAX_REQUEST_BYTES


def test_outbox_removes_only_the_delivered_reports() -> None:
    outbox = Outbox()
    for number in range(MAX_REPORTS_PER_HEARTBEAT + 20):
        outbox.add(wire.Prepared(handoff=number))
    said = outbox.next_reports()
    assert len(said) == MAX_REPORTS_PER_HEARTBEAT <= wire.MAX_REPORTS
    outbox.mark_delivered(said)
    assert outbox.next_reports() == [
        wire.Prepared(handoff=number)
        for number in range(MAX_REPORTS_PER_HEARTBEAT, MAX_REPORTS_PER_HEARTBEAT + 20)
    ]
