"""Reads of the heads of recorded feeds: however many ask, they take one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from scheduling.gateway import feed_reads


class CountingPool:
    """Counts the connections that are taken at once."""

    def __init__(self) -> None:
        self.taken = self.most = 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        self.taken += 1
        self.most = max(self.most, self.taken)
        try:
            yield
        finally:
            self.taken -= 1


def test_many_reads_at_once_take_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = CountingPool()

    async def execute(*_: Any) -> list[Any]:
        await asyncio.sleep(0)
        return []

    async def ask() -> None:
        heads = feed_reads.FeedHeads()
        await asyncio.gather(*(heads.read("tape") for _ in range(64)))

    monkeypatch.setattr(feed_reads, "work_pool", lambda: pool)
    monkeypatch.setattr(feed_reads, "aexecute_autocommit", execute)
    asyncio.run(ask())
    assert pool.most == 1
