"""Recorded feeds in PostgreSQL: the conformance suite, with a real server and writers killed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from decimal import Decimal

import pytest
from asgiref.sync import sync_to_async

from ginkgo_site.env import CHECKOUT
from portfolios.feeds.log import RecordedLog, SourceId
from scheduling.operations.feeds import NewInstrument, create_feed
from scheduling.recorded_feeds.postgres_log import PostgresLog
from tests.integration.feeds.append_and_die import connect
from tests.integration.feeds.log_conformance import *  # noqa: F403
from tests.support.web_process import failing_at, site_environment

pytestmark = pytest.mark.django_db(transaction=True)


class PostgresSubstrate:
    """Logs in the test database."""

    #: If the last statement before the commit has left nothing, the earlier ones have not either.
    kill_points = ("feed_records.append:after_feed_append", "feed_records.append:committed")

    async def make(self, name: str, symbols: Sequence[str]) -> RecordedLog:
        made = [NewInstrument(symbol, Decimal("0.00001")) for symbol in symbols]
        await sync_to_async(create_feed)(name, made, actor="test")
        return PostgresLog(name, connect)

    async def append_and_die(
        self, log: RecordedLog, point: str, epoch: int, expected: int, source: SourceId
    ) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.feeds.append_and_die", log.name, str(epoch),
            str(expected), source.source, str(source.number), source.sha256,
            cwd=CHECKOUT,
            env=site_environment(**failing_at(f"{point}=exit")),
        )  # fmt: skip
        assert await process.wait() == -signal.SIGKILL, point


@pytest.fixture
def substrate() -> PostgresSubstrate:
    return PostgresSubstrate()
