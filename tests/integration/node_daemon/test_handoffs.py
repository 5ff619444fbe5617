"""The node daemon in handoffs: prepare, drain, activate, roll back; with and without pushes."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from chaos.harness.installation import SLOW_MACHINE_S
from scheduling.wire import messages as wire
from tests.support.daemons import (
    Daemons,
    assert_canary_is_exact,
    awaited_reports,
    continue_for,
    pids_of,
    reports,
)
from tests.support.fake_gateway import FakeGateway, FakeRun

pytestmark = pytest.mark.asyncio(loop_scope="module")

HANDOFF = 7


@pytest.fixture
def gateway(shared_daemons: Daemons) -> FakeGateway:
    return shared_daemons.gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node_2(shared_daemons: Daemons) -> None:
    await shared_daemons.start("node-2")
    await shared_daemons.gateway.until(lambda: "node-2" in shared_daemons.gateway.sockets)


async def prepare(gateway: FakeGateway, canary: int, target: str, revision: int = 1) -> None:
    """Let `target` prepare the canary, in addition to its entries."""
    entry = gateway.entry(canary, "prepare", handoff=HANDOFF, revision=revision)
    await gateway.want(target, *gateway.entries.get(target, []), entry)
    await gateway.until(lambda: wire.Prepared(handoff=HANDOFF) in reports(gateway, wire.Prepared))


async def drain(gateway: FakeGateway, canary: int, source: str = "node-1") -> None:
    """Let `source` release, and wait for the release."""
    others = [e for e in gateway.entries[source] if e.role == "prepare"]
    await gateway.want(source, gateway.entry(canary, "drain", handoff=HANDOFF), *others)
    await gateway.until(lambda: gateway.runs[canary].commits[-1].release == HANDOFF)


async def activate(gateway: FakeGateway, canary: int, target: str, revision: int = 1) -> None:
    """Grant the next epoch to `target`, and wait for its first commit."""
    epoch = gateway.grant(target, canary, revision)
    kept = [e for e in gateway.entries[target] if e.role == "warm"]
    await gateway.want(target, gateway.entry(canary, "run", handoff=HANDOFF), *kept)
    await gateway.until(lambda: gateway.runs[canary].commits[-1].epoch == epoch)


@pytest.mark.usefixtures("node_2")
async def test_portfolio_migrates_there_and_back_without_pushes(
    gateway: FakeGateway, canary: int
) -> None:
    gateway.pushing = False
    for socket in list(gateway.sockets.values()):
        await socket.close()
    for source, target in [("node-1", "node-2"), ("node-2", "node-1")]:
        gateway.reports.clear()
        await prepare(gateway, canary, target)
        await drain(gateway, canary, source)
        await activate(gateway, canary, target)
        await gateway.want(source)
        await continue_for(gateway, portfolio=canary)
    assert_canary_is_exact(gateway, canary)


async def test_answer_to_the_next_commit_replaces_a_lost_push(
    gateway: FakeGateway, canary: int
) -> None:
    gateway.next_beat_s = 10 * SLOW_MACHINE_S  # none after the next one
    beats = len(gateway.beats)
    await gateway.until(lambda: len(gateway.beats) > beats)
    gateway.pushing = False  # sockets stay open
    await gateway.want("node-1", gateway.entry(canary, "drain", handoff=HANDOFF))
    await gateway.until(lambda: gateway.runs[canary].commits[-1].release == HANDOFF)
    gateway.next_beat_s = 0.2
    await gateway.sockets["node-1"].close()  # makes it beat at once


async def test_reload_prepares_the_new_revision_beside_the_old_one(
    gateway: FakeGateway, canary: int
) -> None:
    await prepare(gateway, canary, "node-1", revision=2)
    await continue_for(gateway, 20, canary)
    await drain(gateway, canary)
    old = gateway.runs[canary].epoch
    warm = gateway.entry(canary, "warm", handoff=HANDOFF, epoch=old, revision=1)
    gateway.entries["node-1"] = [warm]
    await activate(gateway, canary, "node-1", revision=2)
    await gateway.want("node-1", gateway.entry(canary, "run"))
    await continue_for(gateway, portfolio=canary)
    assert_canary_is_exact(gateway, canary)


async def test_source_answered_keep_continues_under_its_epoch(
    gateway: FakeGateway, canary: int
) -> None:
    gateway.release_answer = "keep"
    await drain(gateway, canary)
    await continue_for(gateway, 50, canary)  # although the set still says drain
    await gateway.want("node-1", *gateway.entries["node-1"])
    await continue_for(gateway, 20, canary)
    await gateway.want("node-1", gateway.entry(canary, "run"))
    await continue_for(gateway, 20, canary)
    commits = gateway.runs[canary].commits
    assert {commit.epoch for commit in commits} == {1}
    assert sum(commit.release is not None for commit in commits) == 1
    assert_canary_is_exact(gateway, canary)


@pytest.mark.usefixtures("node_2")
async def test_unanswered_release_is_repeated_byte_for_byte(
    gateway: FakeGateway, canary: int
) -> None:
    await prepare(gateway, canary, "node-2")
    gateway.lose_release_answers = 3
    await drain(gateway, canary)
    await gateway.until(lambda: gateway.lose_release_answers == 0)
    # Three times without an answer, and once more.
    await gateway.until(lambda: gateway.bodies.count(gateway.bodies[-1]) >= 4)
    await activate(gateway, canary, "node-2")
    await continue_for(gateway, portfolio=canary)
    assert_canary_is_exact(gateway, canary)


@pytest.mark.usefixtures("node_2")
async def test_warm_source_replaces_a_target_that_never_commits(
    gateway: FakeGateway, canary: int
) -> None:
    await prepare(gateway, canary, "node-2")
    await drain(gateway, canary)
    released = gateway.runs[canary].epoch
    gateway.grant("node-2", canary)
    await gateway.want("node-1", gateway.entry(canary, "warm", handoff=HANDOFF, epoch=released))
    await asyncio.sleep(0.3)
    gateway.grant("node-1", canary)
    await gateway.want("node-1", gateway.entry(canary, "run"))
    await continue_for(gateway, portfolio=canary)
    assert gateway.runs[canary].commits[-1].epoch == 3
    assert_canary_is_exact(gateway, canary)


async def test_process_granted_the_next_epoch_continues_in_memory(
    gateway: FakeGateway, canary: int
) -> None:
    gateway.grant("node-1", canary)
    await gateway.want("node-1", gateway.entry(canary, "run"))
    await continue_for(gateway, portfolio=canary)
    assert gateway.runs[canary].commits[-1].epoch == 2
    assert len(pids_of(gateway)) == 1
    assert_canary_is_exact(gateway, canary)


@pytest.mark.usefixtures("node_2")
async def test_strategy_that_fails_to_load_fails_only_the_prepare(
    gateway: FakeGateway, canary: int
) -> None:
    absent = {"strategy": "no_such_strategy", "revision": 2}
    await gateway.want("node-2", gateway.entry(canary, "prepare", handoff=HANDOFF, **absent))
    await awaited_reports(gateway, wire.StepFailed)
    await continue_for(gateway, portfolio=canary)
    (failed,) = reports(gateway, wire.StepFailed)  # it was not tried again
    assert (failed.handoff, failed.step, failed.strategy_failed) == (HANDOFF, "prepare", True)
    assert "no_such_strategy" in failed.error


async def test_owner_without_a_process_answers_a_drain_with_a_release(
    gateway: FakeGateway, canary: int
) -> None:
    other = canary + 1
    gateway.runs[other] = FakeRun(4, 1, 500, "node-1", state_seq=500)
    await gateway.want("node-1", gateway.entry(other, "drain", handoff=9))
    await gateway.until(lambda: gateway.runs[other].commits)
    (commit,) = gateway.runs[other].commits
    assert (commit.release, commit.from_seq, commit.to_seq) == (9, 500, 500)


async def test_fenced_process_ends_without_a_report(gateway: FakeGateway, canary: int) -> None:
    gateway.grant("node-2", canary)  # taken away without a word
    await gateway.until(
        lambda: ("node-1", []) in [(n, b.portfolios) for n, b in gateway.beats[-4:]]
    )
    assert reports(gateway, wire.ProcessExited) == []


async def test_desired_set_with_a_lower_version_is_ignored(
    gateway: FakeGateway, canary: int
) -> None:
    old = gateway.versions["node-1"]
    await gateway.want("node-1", gateway.entry(canary, "run"))
    await gateway.sockets["node-1"].send_bytes(wire.encode(wire.DesiredSet(old, [], [])))
    await continue_for(gateway, portfolio=canary)
    assert len(pids_of(gateway)) == 1
