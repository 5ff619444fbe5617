"""The committer: no commit is left behind in its queue."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, cast

import msgspec

from scheduling.node_daemon.committer import Committer
from scheduling.node_daemon.link import Link
from scheduling.wire.messages import Commit, CommitAnswers, CommitRequest, CommitResult


class HeldLink:
    """A server that answers all requests under way at the same moment."""

    def __init__(self) -> None:
        self.requests: list[CommitRequest] = []
        self.answer = asyncio.Event()

    async def commit(self, body: bytes) -> CommitAnswers:
        request = msgspec.msgpack.decode(body, type=CommitRequest)
        self.requests.append(request)
        await self.answer.wait()
        results = [CommitResult(portfolio=c.portfolio, answer="ok") for c in request.commits]
        return CommitAnswers(results=results)


def _commit(portfolio: int, seq: int) -> Commit:
    return Commit(
        portfolio=portfolio, epoch=1, from_seq=seq, to_seq=seq + 1, batch=str(uuid.uuid4())
    )


async def _until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_commit_made_while_the_last_senders_end_is_sent() -> None:
    """On a node with nothing else to commit, it would wait for ever."""

    async def story() -> None:
        link = HeldLink()
        committer = Committer(cast(Link, link), "incarnation")

        async def feed(portfolio: int, commits: int) -> None:
            for seq in range(commits):
                await committer.commit(_commit(portfolio, seq))

        first = asyncio.create_task(feed(1, 2))
        await _until(lambda: len(link.requests) == 1)
        second = asyncio.create_task(feed(2, 1))
        await _until(lambda: len(link.requests) == 2)
        link.answer.set()
        async with asyncio.timeout(60):
            await asyncio.gather(first, second)
        await committer.close()

    asyncio.run(story())
