"""The committer: no commit stays in its queue."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, cast

import msgspec

from scheduling.node_daemon.committer import MAX_REQUEST_BYTES, Committer
from scheduling.node_daemon.control_plane_client import ControlPlaneClient
from scheduling.node_daemon.outbox import MAX_REPORTS_PER_HEARTBEAT, Outbox
from scheduling.wire.messages import (
    MAX_COMMITS,
    MAX_LINES,
    MAX_REPORTS,
    Commit,
    CommitAnswers,
    CommitRequest,
    CommitResult,
    EquityLine,
    Prepared,
)


class HeldLink:
    """A server that answers all concurrent requests at the same moment."""

    def __init__(self) -> None:
        self.requests: list[CommitRequest] = []
        self.answer = asyncio.Event()

    async def commit(self, body: bytes) -> CommitAnswers:
        request = msgspec.msgpack.decode(body, type=CommitRequest)
        self.requests.append(request)
        await self.answer.wait()
        results = [CommitResult(portfolio=c.portfolio, answer="ok") for c in request.commits]
        return CommitAnswers(results=results)


class BusyLink:
    """A server in which the rows of some portfolios are locked."""

    def __init__(self, held: set[int]) -> None:
        self.held = held
        self.requests: list[CommitRequest] = []

    async def commit(self, body: bytes) -> CommitAnswers:
        request = msgspec.msgpack.decode(body, type=CommitRequest)
        self.requests.append(request)
        await asyncio.sleep(0)
        return CommitAnswers(
            results=[
                CommitResult(portfolio=c.portfolio, answer="ok")
                for c in request.commits
                if c.portfolio not in self.held
            ]
        )


def _commit(portfolio: int, seq: int) -> Commit:
    return Commit(
        portfolio=portfolio, epoch=1, from_seq=seq, to_seq=seq + 1, batch=str(uuid.uuid4())
    )


async def _until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_commit_queued_while_the_last_sender_ends_is_sent() -> None:
    """On a node with no other commit, it would wait indefinitely."""

    async def story() -> None:
        client = HeldLink()
        committer = Committer(cast(ControlPlaneClient, client), "incarnation")

        async def feed(portfolio: int, commits: int) -> None:
            for seq in range(commits):
                await committer.commit(_commit(portfolio, seq))

        first = asyncio.create_task(feed(1, 2))
        await _until(lambda: len(client.requests) == 1)
        second = asyncio.create_task(feed(2, 1))
        await _until(lambda: len(client.requests) == 2)
        client.answer.set()
        async with asyncio.timeout(60):
            await asyncio.gather(first, second)
        await committer.close()

    asyncio.run(story())


def test_commits_left_out_of_an_answer_are_repeated_without_delaying_others() -> None:
    """More of them than concurrent requests are allowed."""

    async def story() -> None:
        client = BusyLink(held={1, 2, 3})
        committer = Committer(cast(ControlPlaneClient, client), "incarnation")
        held = {n: _commit(n, 0) for n in (1, 2, 3)}
        waiting = {n: asyncio.create_task(committer.commit(c)) for n, c in held.items()}
        await _until(lambda: len(client.requests) > 6)
        for seq in range(20):
            async with asyncio.timeout(2):
                assert (await committer.commit(_commit(4, seq))).answer == "ok"
        assert not any(task.done() for task in waiting.values())
        client.held.clear()
        async with asyncio.timeout(2):
            assert [(await task).answer for task in waiting.values()] == ["ok"] * 3
        sent = [c for request in client.requests for c in request.commits if c.portfolio < 4]
        assert len(sent) > 6
        assert all(c == held[c.portfolio] for c in sent)
        await committer.close()

    asyncio.run(story())


def test_closed_committer_repeats_nothing() -> None:
    async def story() -> None:
        client = BusyLink(held={1})
        committer = Committer(cast(ControlPlaneClient, client), "incarnation")
        waiting = asyncio.create_task(committer.commit(_commit(1, 0)))
        await _until(lambda: len(client.requests) == 2)
        await committer.close()
        sent = len(client.requests)
        await asyncio.sleep(0.3)
        assert len(client.requests) == sent
        waiting.cancel()

    asyncio.run(story())


class KeenLink:
    """A server that records its requests and accepts all commits."""

    def __init__(self) -> None:
        self.requests: list[CommitRequest] = []
        self.sizes: list[int] = []

    async def commit(self, body: bytes) -> CommitAnswers:
        request = msgspec.msgpack.decode(body, type=CommitRequest)
        self.requests.append(request)
        self.sizes.append(len(body))
        results = [CommitResult(portfolio=c.portfolio, answer="ok") for c in request.commits]
        return CommitAnswers(results=results)


def _sent(commits: list[Commit]) -> KeenLink:
    async def story() -> KeenLink:
        client = KeenLink()
        committer = Committer(cast(ControlPlaneClient, client), "incarnation")
        answers = await asyncio.gather(*(committer.commit(commit) for commit in commits))
        assert [answer.portfolio for answer in answers] == [c.portfolio for c in commits]
        await committer.close()
        return client

    return asyncio.run(story())


def test_request_never_exceeds_the_commit_limit() -> None:
    client = _sent([_commit(portfolio, 0) for portfolio in range(450)])
    assert max(len(request.commits) for request in client.requests) <= MAX_COMMITS
    assert sum(len(request.commits) for request in client.requests) == 450


def test_request_never_exceeds_the_line_limit() -> None:
    lines = [EquityLine(1, 1, "1")] * (MAX_LINES // 3)
    commits = [
        msgspec.structs.replace(_commit(portfolio, 0), equity=lines) for portfolio in range(7)
    ]
    client = _sent(commits)
    assert [len(request.commits) for request in client.requests] == [3, 3, 1]


def test_large_states_are_sent_in_separate_requests() -> None:
    state = b"s" * 3_000_000
    commits = [
        msgspec.structs.replace(_commit(portfolio, 0), state=state) for portfolio in range(3)
    ]
    assert max(_sent(commits).sizes) < MAX_REQUEST_BYTES


def test_outbox_removes_only_the_delivered_reports() -> None:
    outbox = Outbox()
    for number in range(MAX_REPORTS_PER_HEARTBEAT + 20):
        outbox.add(Prepared(handoff=number))
    said = outbox.next_reports()
    assert len(said) == MAX_REPORTS_PER_HEARTBEAT <= MAX_REPORTS
    outbox.mark_delivered(said)
    assert outbox.next_reports() == [
        Prepared(handoff=number)
        for number in range(MAX_REPORTS_PER_HEARTBEAT, MAX_REPORTS_PER_HEARTBEAT + 20)
    ]
