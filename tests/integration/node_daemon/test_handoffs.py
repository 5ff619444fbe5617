"""The node daemon in handoffs: prepare, drain, activate, roll back; with and without pushes."""

from __future__ import annotations

import asyncio

import pytest

from chaos.harness.installation import SLOW_MACHINE_S
from scheduling.wire import messages as wire
from tests.support.daemons import (
    Daemons,
    assert_canary_is_exact,
    awaited_reports,
    continue_for,
    count_processes,
    reports,
    run_canary,
)
from tests.support.fake_gateway import FakeGateway

HANDOFF = 7


@pytest.fixture
async def source(gateway: FakeGateway, daemons: Daemons) -> Daemons:
    await run_canary(gateway, daemons)
    await gateway.until(lambda: len(gateway.sockets) == 1)
    return daemons


@pytest.fixture
async def two_nodes(gateway: FakeGateway, source: Daemons) -> Daemons:
    """Return the daemons: node-1 runs a canary, and node-2 is registered."""
    await source.start("node-2")
    await gateway.until(lambda: len(gateway.sockets) == 2)
    return source


async def prepare(gateway: FakeGateway, target: str, revision: int = 1, **other: object) -> None:
    """Let `target` prepare the canary, in addition to its entries."""
    entry = gateway.entry(1, "prepare", handoff=HANDOFF, revision=revision, **other)
    await gateway.want(target, *gateway.entries.get(target, []), entry)
    await gateway.until(lambda: wire.Prepared(handoff=HANDOFF) in reports(gateway, wire.Prepared))


async def drain(gateway: FakeGateway, source: str = "node-1") -> None:
    """Let `source` release, and wait for the release."""
    others = [e for e in gateway.entries[source] if e.role == "prepare"]
    await gateway.want(source, gateway.entry(1, "drain", handoff=HANDOFF), *others)
    await gateway.until(lambda: gateway.runs[1].commits[-1].release == HANDOFF)


async def activate(gateway: FakeGateway, target: str, revision: int = 1) -> None:
    """Grant the next epoch to `target`, and wait for its first commit."""
    epoch = gateway.grant(target, 1, revision)
    kept = [e for e in gateway.entries[target] if e.role == "warm"]
    await gateway.want(target, gateway.entry(1, "run", handoff=HANDOFF), *kept)
    await gateway.until(lambda: gateway.runs[1].commits[-1].epoch == epoch)


async def test_portfolio_migrates_there_and_back_without_pushes(
    gateway: FakeGateway, two_nodes: Daemons
) -> None:
    gateway.pushing, gateway.next_beat_s = False, 0.2
    for socket in list(gateway.sockets.values()):
        await socket.close()
    for source, target in [("node-1", "node-2"), ("node-2", "node-1")]:
        gateway.reports.clear()
        await prepare(gateway, target)
        await drain(gateway, source)
        await activate(gateway, target)
        await gateway.want(source)
        await continue_for(gateway)
    assert_canary_is_exact(gateway, 1)


@pytest.fixture
def hardly_any_beats(gateway: FakeGateway) -> None:
    """Have a daemon that starts then send its next heartbeat long after every time limit."""
    gateway.next_beat_s, gateway.ttl_s = 10 * SLOW_MACHINE_S, 100 * SLOW_MACHINE_S


@pytest.mark.usefixtures("hardly_any_beats")
async def test_answer_to_the_next_commit_replaces_a_lost_push(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.grant("node-1", 1)
    await gateway.want("node-1", gateway.entry(1, "run"))
    await daemons.start("node-1")
    await gateway.until(lambda: gateway.committed(1) > 30 and len(gateway.sockets) == 1)
    gateway.pushing = False  # sockets stay open
    await gateway.want("node-1", gateway.entry(1, "drain", handoff=HANDOFF))
    await gateway.until(lambda: gateway.runs[1].commits[-1].release == HANDOFF)


async def test_reload_prepares_the_new_revision_beside_the_old_one(
    gateway: FakeGateway, source: Daemons
) -> None:
    await prepare(gateway, "node-1", revision=2)
    await continue_for(gateway, 20)
    await drain(gateway)
    old = gateway.runs[1].epoch
    gateway.entries["node-1"] = [gateway.entry(1, "warm", handoff=HANDOFF, epoch=old, revision=1)]
    await activate(gateway, "node-1", revision=2)
    await gateway.want("node-1", gateway.entry(1, "run"))
    await continue_for(gateway)
    assert_canary_is_exact(gateway, 1)


async def test_source_answered_keep_continues_under_its_epoch(
    gateway: FakeGateway, source: Daemons
) -> None:
    gateway.release_answer = "keep"
    await drain(gateway)
    await continue_for(gateway, 100)  # although the set still says drain
    await gateway.want("node-1", *gateway.entries["node-1"])
    await continue_for(gateway, 20)
    await gateway.want("node-1", gateway.entry(1, "run"))
    await continue_for(gateway)
    assert {commit.epoch for commit in gateway.runs[1].commits} == {1}
    assert sum(commit.release is not None for commit in gateway.runs[1].commits) == 1
    assert_canary_is_exact(gateway, 1)


async def test_unanswered_release_is_repeated_byte_for_byte(
    gateway: FakeGateway, two_nodes: Daemons
) -> None:
    await prepare(gateway, "node-2")
    gateway.lose_release_answers = 3
    await drain(gateway)
    await gateway.until(lambda: gateway.lose_release_answers == 0)
    # Three times without an answer, and once more.
    await gateway.until(lambda: gateway.bodies.count(gateway.bodies[-1]) >= 4)
    await activate(gateway, "node-2")
    await continue_for(gateway)
    assert_canary_is_exact(gateway, 1)


async def test_warm_source_replaces_a_target_that_never_commits(
    gateway: FakeGateway, two_nodes: Daemons
) -> None:
    await prepare(gateway, "node-2")
    await drain(gateway)
    released = gateway.runs[1].epoch
    gateway.grant("node-2", 1)
    await gateway.want("node-1", gateway.entry(1, "warm", handoff=HANDOFF, epoch=released))
    await asyncio.sleep(0.3)
    gateway.grant("node-1", 1)
    await gateway.want("node-1", gateway.entry(1, "run"))
    await continue_for(gateway)
    assert gateway.runs[1].commits[-1].epoch == 3
    assert_canary_is_exact(gateway, 1)


async def test_process_granted_the_next_epoch_continues_in_memory(
    gateway: FakeGateway, source: Daemons
) -> None:
    gateway.grant("node-1", 1)
    await gateway.want("node-1", gateway.entry(1, "run"))
    await continue_for(gateway)
    assert gateway.runs[1].commits[-1].epoch == 2
    assert count_processes(gateway) == 1
    assert_canary_is_exact(gateway, 1)


async def test_strategy_that_fails_to_load_fails_only_the_prepare(
    gateway: FakeGateway, two_nodes: Daemons
) -> None:
    entry = gateway.entry(1, "prepare", handoff=HANDOFF, strategy="no_such_strategy", revision=2)
    await gateway.want("node-2", entry)
    await awaited_reports(gateway, wire.StepFailed)
    await continue_for(gateway)
    (failed,) = reports(gateway, wire.StepFailed)  # it was not tried again
    assert (failed.handoff, failed.step, failed.strategy_failed) == (HANDOFF, "prepare", True)
    assert "no_such_strategy" in failed.error


async def test_owner_without_a_process_answers_a_drain_with_a_release(
    gateway: FakeGateway, two_nodes: Daemons
) -> None:
    gateway.runs[1].epoch = gateway.grant("node-1", 1)
    gateway.runs[2] = gateway.runs[1].__class__(4, 1, 500, "node-2", state_seq=500)
    await gateway.want("node-2", gateway.entry(2, "drain", handoff=9))
    await gateway.until(lambda: gateway.runs[2].commits)
    (commit,) = gateway.runs[2].commits
    assert (commit.release, commit.from_seq, commit.to_seq) == (9, 500, 500)


async def test_fenced_process_ends_without_a_report(gateway: FakeGateway, source: Daemons) -> None:
    gateway.grant("node-2", 1)  # taken away without a word
    await gateway.until(
        lambda: ("node-1", []) in [(n, b.portfolios) for n, b in gateway.beats[-4:]]
    )
    assert reports(gateway, wire.ProcessExited) == []


async def test_desired_set_with_a_lower_version_is_ignored(
    gateway: FakeGateway, source: Daemons
) -> None:
    old = gateway.versions["node-1"]
    await gateway.want("node-1", gateway.entry(1, "run"))
    await gateway.sockets["node-1"].send_bytes(wire.encode(wire.DesiredSet(old, [], [])))
    await continue_for(gateway)
    assert count_processes(gateway) == 1
