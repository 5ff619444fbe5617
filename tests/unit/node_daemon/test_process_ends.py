"""A portfolio process that ends by itself while a commit or a release is answered."""

from __future__ import annotations

import asyncio
import signal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scheduling.node_daemon import child, hosted_portfolio
from scheduling.node_daemon.errors import ChildFailed, ReleaseGranted, RequestRefused
from scheduling.node_daemon.forkserver_client import SpawnedProcess
from scheduling.node_daemon.hosted_portfolio import HostedPortfolio
from scheduling.wire.messages import Commit, CommitResult, StepFailed
from tests.unit.node_daemon.test_feeder_of_records import Child, make_feeder
from tests.unit.node_daemon.test_recorded_feed import Gateway, following, gateway

__all__ = ["gateway"]


def make_entry(handoff: int | None = 7) -> Any:
    return SimpleNamespace(name="p", portfolio=1, epoch=2, revision=1, handoff=handoff)


@pytest.mark.parametrize("released", [False, True], ids=["first commit", "release that is kept"])
async def test_process_that_ends_while_a_commit_is_answered_fails_at_no_event(
    gateway: Gateway, released: bool
) -> None:
    process = Child()
    feeder, commits = make_feeder(await following(gateway, 110), process)

    async def answer_once_it_ended(commit: Commit, **_: Any) -> CommitResult:
        process.has_ended = True
        commits.append(commit)
        return CommitResult(portfolio=1, answer="ok" if commit.release is None else "keep")

    feeder._context.committer.commit = answer_once_it_ended  # type: ignore[method-assign]
    if released:
        feeder.drain(7)
    else:
        await feeder.first_commit()
    with pytest.raises(ChildFailed, match="ended by SIGKILL"):
        await feeder.run()
    assert (feeder.failed_in, [commit.to_seq for commit in commits]) == (None, [100])


@pytest.mark.parametrize(
    ("with_state", "failed_in", "committed"), [(True, None, [110]), (False, (100, 110), [])]
)
async def test_process_that_ends_after_its_reply_keeps_work_with_its_state_or_fails_in_it(
    gateway: Gateway, with_state: bool, failed_in: tuple[int, int] | None, committed: list[int]
) -> None:
    process = Child()
    feeder, commits = make_feeder(await following(gateway, 110), process)
    feeder._builder.skip(110, b"")
    feeder._builder.lacks_state = not with_state
    process.has_ended = True
    with pytest.raises(ChildFailed, match="ended by SIGKILL"):
        await feeder.run()
    assert (feeder.failed_in, [commit.to_seq for commit in commits]) == (failed_in, committed)
    assert feeder.ending


@pytest.mark.parametrize("granted", [True, False], ids=["release granted", "lost to a new owner"])
async def test_process_that_ends_while_its_release_is_answered_does_not_stay_warm(
    granted: bool,
) -> None:
    context = SimpleNamespace(on_change=lambda: None)
    hosted = HostedPortfolio(cast("Any", context), 1, make_entry())
    spawned = SpawnedProcess()
    hosted.child = process = child.Child(spawned, 4100)
    hosted.feeder = cast("Any", SimpleNamespace(releasing=True, failed_in=None))
    watched = asyncio.Event()

    async def release() -> None:
        spawned.status.set_result(signal.SIGKILL)
        await hosted._watch_child(process)
        watched.set()
        if not granted:
            await asyncio.Event().wait()
        raise ReleaseGranted("released at seq 100 for handoff 7")

    hosted._start_task("draining", release())
    await watched.wait()
    if not granted:
        hosted.freeze()
    assert (hosted.phase, hosted.child) == ("warm", None)


@pytest.mark.parametrize("activated", [True, False], ids=["running", "first events of a handoff"])
async def test_missing_record_of_a_feed_rejects_no_revision_and_counts_as_an_attempt(
    gateway: Gateway, activated: bool
) -> None:
    reader = await following(gateway, 110)
    feeder, _ = make_feeder(reader, Child())
    gateway.lacks = {105}
    reader.read_again()
    await reader._follow_once()
    reports: list[Any] = []
    outbox = SimpleNamespace(add=lambda report, _delivered: reports.append(report))
    context = SimpleNamespace(on_change=lambda: None, outbox=outbox)
    hosted = HostedPortfolio(cast("Any", context), 1, make_entry())
    hosted.feeder, hosted._activated = feeder, activated
    hosted._start_task("running", feeder.run())
    assert hosted._task is not None
    await hosted._task
    (report,) = reports
    if activated:
        assert (report.stage, report.idle, report.failed_seq) == ("exit", False, 0)
    else:
        assert (report.step, report.strategy_failed) == ("activate", False)
    assert "record 105 of feed fx is missing" in report.error


async def test_preparation_whose_history_is_refused_reports_that_it_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports: list[StepFailed] = []
    reported = asyncio.Event()

    async def nothing(*_: Any, **__: Any) -> None: ...
    async def refuse(*_: Any, **__: Any) -> None:
        raise RequestRefused(409, "not_yours", "another node is the target")

    outbox = SimpleNamespace(add=lambda report, _delivered: reports.append(report))
    context = SimpleNamespace(on_change=reported.set, outbox=outbox)
    hosted = HostedPortfolio(cast("Any", context), 1, make_entry())
    monkeypatch.setattr(hosted_portfolio, "checkpoint", nothing)
    monkeypatch.setattr(hosted, "_ensure_child", nothing)
    monkeypatch.setattr(hosted, "_load", refuse)
    hosted.prepare()
    await reported.wait()
    assert (hosted.phase, reports[0].handoff, reports[0].step) == ("ended", 7, "prepare")
    assert "its checkpoint or history was refused: another node" in reports[0].error


async def test_end_of_a_process_that_its_feeder_handles_is_not_handled_twice() -> None:
    hosted = HostedPortfolio(cast("Any", SimpleNamespace()), 1, make_entry(None))
    spawned = SpawnedProcess()
    hosted.child = process = child.Child(spawned, 4100)
    hosted.feeder = cast("Any", SimpleNamespace(releasing=False, ending=True, failed_in=None))
    begun = asyncio.Event()

    async def feed() -> None:
        begun.set()
        await asyncio.Event().wait()

    hosted._start_task("running", feed())
    await begun.wait()
    spawned.status.set_result(signal.SIGKILL)
    await hosted._watch_child(process)
    assert (hosted.phase, hosted.child) == ("running", process)
    hosted._cancel()
