"""A program that appends three bars as a writer and dies at the failpoint of its environment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import django
import psycopg


@asynccontextmanager
async def connect() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    from ginkgo_site.database import conninfo

    async with await psycopg.AsyncConnection.connect(conninfo(), autocommit=True) as session:
        yield session


async def append(name: str, epoch: int, expected: int, source: str, number: int, sha: str) -> None:
    from portfolios.feeds.log import SourceId
    from scheduling.recorded_feeds.postgres_log import PostgresLog
    from tests.integration.feeds.log_conformance import euros

    log = PostgresLog(name, connect)
    await log.append(epoch, expected, euros(expected, 3), SourceId(source, number, sha))


if __name__ == "__main__":
    django.setup()
    feed, epoch, expected, source, number, sha = sys.argv[1:]
    asyncio.run(append(feed, int(epoch), int(expected), source, int(number), sha))
