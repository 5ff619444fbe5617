"""Operations on streams have a total time limit, even if each answer of the server is in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from scheduling.errors import Refused
from scheduling.recorded_feeds import reads, stream_appends
from scheduling.recorded_feeds.jetstream import stream
from scheduling.recorded_feeds.jetstream.mirrored_log import MirroredLog


async def answer_slowly(*_: Any) -> None:
    for _turn in range(50):
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def connected(url: str) -> AsyncIterator[Any]:
        yield None

    monkeypatch.setattr(stream, "connected", connected)
    monkeypatch.setattr(stream.Stream, "__init__", lambda *_: None)
    monkeypatch.setattr(MirroredLog, "__init__", lambda *_: None)
    monkeypatch.setattr(MirroredLog, "begin", answer_slowly)
    for module in (reads, stream_appends):
        monkeypatch.setattr(module, "nats_url", lambda: "nats://slow:4222")
        monkeypatch.setattr(module, "OPERATION_LIMIT_S", 0.05)


def test_a_stream_read_without_an_answer_ends_with_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream.Stream, "create", answer_slowly)
    with pytest.raises(Refused, match="does not answer in time") as refused:
        reads.create_stream("fx")
    assert refused.value.status == 503


def test_a_stream_append_or_release_without_an_answer_ends_with_503() -> None:
    with pytest.raises(Refused, match=r"does not answer in time.* Nothing was appended"):
        stream_appends.append_in_stream("fx", lambda *_: [], tries=3, within_s=0.05)
    with pytest.raises(Refused, match="does not answer in time") as refused:
        stream_appends.release_in_stream("fx")
    assert refused.value.status == 503
