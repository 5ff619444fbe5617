"""What a commit says of the records of a recorded feed that it was computed from."""

from __future__ import annotations

from hashlib import sha256
from types import SimpleNamespace
from typing import Any, cast

import pytest

from portfolios.runtime.events import encode_event
from portfolios.runtime.messages import Batch
from portfolios.runtime.results import BatchResult
from scheduling import tracing
from scheduling.node_daemon.errors import ChildFailed, ReleaseGranted
from scheduling.node_daemon.feeder import CatchUp, Feeder, MemoryState, StartingPoint, Tenure
from scheduling.node_daemon.recorded_feed import RecordedFeedReader
from scheduling.wire.messages import Commit, CommitResult
from tests.support.traces import tracing_to_memory
from tests.unit.node_daemon.test_recorded_feed import Gateway, following, gateway, record

__all__ = ["gateway"]


class Child:
    """A process that handles every event, up to `halts_at`, until it `has_ended`."""

    def __init__(self) -> None:
        self.halts_at = 10**9
        self.has_ended = False

    async def failure_of_end(self) -> ChildFailed:
        return ChildFailed("exit", "its process was ended by SIGKILL")

    async def run(self, batch: Batch, limit_s: float) -> BatchResult:
        if self.has_ended:
            raise await self.failure_of_end()
        to_seq = min(batch.to_seq, self.halts_at)
        return BatchResult(batch.from_seq, to_seq, b"state", [], [], [], batch.suppress)


class Committer:
    def __init__(self) -> None:
        self.commits: list[Commit] = []

    async def commit(self, commit: Commit, *, patient: bool = False) -> CommitResult:
        self.commits.append(commit)
        return CommitResult(portfolio=commit.portfolio, answer="ok")


def make_feeder(reader: RecordedFeedReader, child: Child) -> tuple[Feeder, list[Commit]]:
    committer = Committer()
    context = SimpleNamespace(
        committer=committer, stale_order_age_s=1e9, config=SimpleNamespace(batch_limit_s=1.0),
        beat_soon=lambda: None, lease=SimpleNamespace(may_feed=lambda _: True),
    )  # fmt: skip
    feeder = Feeder(
        cast("Any", context), reader, cast("Any", child), Tenure(1, 1, 1),
        StartingPoint(MemoryState(100, 100, 1), 100), CatchUp("full"),
        symbols=frozenset({"KO"}), on_keep=lambda: None,
    )  # fmt: skip
    return feeder, committer.commits


def hash_of(seq: int, released: int = 0) -> bytes:
    return sha256(encode_event(record(seq, released=released))).digest()


@pytest.mark.parametrize("ends_at", [110, 103], ids=["last record", "halt of a limit"])
async def test_commit_has_the_hash_of_its_last_record_whatever_the_symbol_of_that(
    gateway: Gateway, ends_at: int
) -> None:
    reader = await following(gateway, 110)
    child = Child()
    child.halts_at = ends_at
    feeder, commits = make_feeder(reader, child)
    assert await feeder._run_next_batch()
    await feeder._flush()
    assert [(c.to_seq, c.record) for c in commits] == [(ends_at, hash_of(ends_at))]


async def test_events_of_lost_records_are_not_committed_with_those_that_took_their_place(
    gateway: Gateway,
) -> None:
    reader = await following(gateway, 105)
    feeder, commits = make_feeder(reader, Child())
    assert await feeder._run_next_batch()
    gateway.released_at, gateway.head = 7, 100
    await reader._follow_once()
    gateway.head = 108
    await reader._follow_once()
    assert await feeder._run_next_batch()
    assert [(c.to_seq, c.record) for c in commits] == [(105, hash_of(105))]
    assert await feeder._run_next_batch()
    await feeder._flush()
    assert [(c.to_seq, c.record) for c in commits[1:]] == [(108, hash_of(108, 7))]


@pytest.mark.parametrize("evicted", [False, True])
async def test_commit_ends_before_a_record_that_is_no_longer_loaded(
    gateway: Gateway, evicted: bool
) -> None:
    reader = await following(gateway, 105)
    feeder, commits = make_feeder(reader, Child())
    assert await feeder._run_next_batch()
    gateway.head = 140 if evicted else 106
    await reader._follow_once()
    await feeder._run_next_batch()
    assert [c.to_seq for c in commits] == ([105] if evicted else [])


async def test_release_of_a_portfolio_is_traced_as_one_span(gateway: Gateway) -> None:
    feeder, commits = make_feeder(await following(gateway, 110), Child())
    with tracing_to_memory() as collector:
        feeder.drain(7)
        with pytest.raises(ReleaseGranted):
            await feeder.run()
    (span,) = collector.spans()
    assert commits[-1].release == 7
    assert (span.name, span.context.trace_id) == ("stop and final commit", tracing.trace_id(7))
    assert span.attributes["ginkgo.outcome"] == "ok"
    assert span.status.description is None
