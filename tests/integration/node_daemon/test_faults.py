"""The node daemon when portfolios, the server or the network misbehave."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import psutil
import pytest

from chaos.harness.installation import SLOW_MACHINE_S, budget_s
from scheduling.wire import messages as wire
from tests.support.daemons import (
    FAULTY,
    ROOT,
    Daemons,
    assert_canary_is_exact,
    awaited_reports,
    continue_for,
    count_processes,
    reports,
    run_canary,
)
from tests.support.fake_gateway import FakeGateway


async def test_failed_portfolios_are_reported_and_others_continue(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    for portfolio in (1, 2, 3):
        gateway.grant("node-1", portfolio)
    await gateway.want(
        "node-1",
        gateway.entry(1, "run"),
        gateway.entry(2, "run", strategy="exiter", parameters={"at_event": 30}),
        gateway.entry(3, "run", strategy="raise_on_load"),
    )
    await daemons.start(GINKGO_STRATEGIES=FAULTY)

    def first_deaths() -> dict[int, wire.ProcessExited]:
        return {died.portfolio: died for died in reversed(reports(gateway, wire.ProcessExited))}

    await gateway.until(lambda: first_deaths().keys() == {2, 3})
    await continue_for(gateway)
    exited, unloaded = (first_deaths()[portfolio] for portfolio in (2, 3))
    assert [(died.epoch, died.stage) for died in (exited, unloaded)] == [(1, "exit"), (1, "load")]
    assert "exited with status 3" in exited.error
    assert "this strategy cannot be loaded" in unloaded.error
    assert_canary_is_exact(gateway, 1)


def pids_of(gateway: FakeGateway) -> list[int]:
    """Return the pids of portfolio processes that heartbeats have named, oldest first."""
    return [a.pid for _, beat in gateway.beats for a in beat.portfolios if a.pid]


async def test_killed_process_restarts_from_the_checkpoint_after_a_second(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    await run_canary(gateway, daemons)
    await gateway.until(lambda: pids_of(gateway))
    psutil.Process(pids_of(gateway)[0]).kill()
    died, *_ = await awaited_reports(gateway, wire.ProcessExited)
    await continue_for(gateway, 200)
    assert (died.stage, died.before_first_event) == ("exit", False)
    assert "SIGKILL" in died.error
    assert_canary_is_exact(gateway, 1)


async def test_commit_is_repeated_until_answered(gateway: FakeGateway, daemons: Daemons) -> None:
    await run_canary(gateway, daemons)
    gateway.away = True
    await asyncio.sleep(3)
    gateway.away = False
    await continue_for(gateway, 300)
    assert_canary_is_exact(gateway, 1)
    assert len(gateway.registered) == 1


async def test_conflict_returns_to_the_checkpoint_in_the_same_process(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    await run_canary(gateway, daemons)
    run, at = gateway.runs[1], gateway.runs[1].last_seq
    run.last_seq += 5  # somebody committed five events without a change of state
    run.commits.append(wire.Commit(portfolio=1, epoch=1, from_seq=at, to_seq=at + 5, batch="x"))
    await continue_for(gateway)
    assert reports(gateway, wire.ProcessExited) == []
    assert count_processes(gateway) == 1


async def test_node_without_renewal_stops_feeding_and_keeps_its_processes(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.ttl_s = 2.0
    gateway.next_beat_s = 0.5
    daemon = await run_canary(gateway, daemons)
    gateway.refuses_heartbeats = True  # commits would be taken
    await gateway.until(lambda: gateway.since_commit_s(1) > 2)  # it stopped at 0.8 x 2 s
    gateway.refuses_heartbeats = False
    await continue_for(gateway, 300)
    assert daemon.returncode is None
    assert {commit.epoch for commit in gateway.runs[1].commits} == {1}
    assert count_processes(gateway) == 1
    assert_canary_is_exact(gateway, 1)


@pytest.mark.parametrize("off_s", [60, -60])
async def test_wrong_wall_clock_has_no_effect(
    gateway: FakeGateway, daemons: Daemons, tmp_path: Path, off_s: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time\n"
        "right, right_ns = time.time, time.time_ns\n"
        f"time.time = lambda: right() + {off_s}\n"
        f"time.time_ns = lambda: right_ns() + {off_s} * 10**9\n"
        "open(__file__ + '.used', 'w')\n"
    )
    # Both limits are far from the minute, and far from what a busy machine is late by.
    gateway.stale_order_age_s = 30.0
    assert gateway.ttl_s == 30.0
    gateway.next_beat_s = 0.5
    await run_canary(gateway, daemons, PYTHONPATH=f"{tmp_path}:{ROOT}")
    await continue_for(gateway, 200)
    # What it caught up on may have been stale, and behind a minute the lag would stay at 6,000.
    await gateway.until(lambda: gateway.beats[-1][1].portfolios[0].lag < 30 * 100)
    started = len(gateway.runs[1].commits)

    def newest() -> list[wire.Commit]:
        return gateway.runs[1].commits[started:][-20:]

    await gateway.until(lambda: len(newest()) == 20 and not any(c.suppress for c in newest()))
    assert (tmp_path / "sitecustomize.py.used").exists()
    assert reports(gateway, wire.ProcessExited) == []
    assert_canary_is_exact(gateway, 1)


async def test_node_reports_the_time_without_answers_and_sends_a_heartbeat_after_one(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.next_beat_s = 0.5
    await run_canary(gateway, daemons)
    gateway.refuses_heartbeats = True
    await gateway.until(lambda: gateway.refused_heartbeats)
    await asyncio.sleep(1.5)
    # The next heartbeat may have been sent before: the one after it was not.
    refused = gateway.refused_heartbeats
    await gateway.until(lambda: gateway.refused_heartbeats > refused)
    gateway.refuses_heartbeats = False
    seen = len(gateway.beats)
    await gateway.until(lambda: len(gateway.beats) >= seen + 2)
    first, second = (beat.unheard_s for _, beat in gateway.beats[seen : seen + 2])
    assert 1.5 <= first < 60
    if second:  # the gateway stood still, and one more was not answered in time
        await gateway.until(lambda: gateway.beats[-1][1].unheard_s == 0)
    assert any(beat.unheard_s == 0 for _, beat in gateway.beats[:seen])


@pytest.mark.slow
async def test_node_resumed_after_its_lease_feeds_nothing_before_a_renewal(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.ttl_s = 2.0
    daemon = await run_canary(gateway, daemons)
    daemon.send_signal(signal.SIGSTOP)
    await asyncio.sleep(2.5)
    gateway.grant("node-2", 1)
    await gateway.want("node-1")
    commits = len(gateway.runs[1].commits)
    daemon.send_signal(signal.SIGCONT)
    await gateway.until(lambda: gateway.beats[-1][1].portfolios == [])
    assert len(gateway.runs[1].commits) == commits
    assert daemon.returncode is None


@pytest.mark.slow
async def test_suspended_daemon_does_not_time_out_its_portfolios(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.grant("node-1", 1)
    busy = gateway.entry(1, "run", strategy="sleeper", parameters={"seconds": 0.0095})
    limit_s = max(budget_s(0.75), 6.0)  # a batch on a machine that stands still for seconds
    await gateway.want("node-1", busy)
    daemon = await daemons.start(GINKGO_STRATEGIES=FAULTY, GINKGO_BATCH_LIMIT_S=f"{limit_s:g}")
    await gateway.until(lambda: gateway.committed(1) > 30)
    daemon.send_signal(signal.SIGSTOP)
    await asyncio.sleep(2 * limit_s)
    daemon.send_signal(signal.SIGCONT)
    await continue_for(gateway)
    assert reports(gateway, wire.ProcessExited) == []


async def test_node_without_websocket_sends_a_heartbeat_each_second(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    # But for that, the next one would come long after every time limit.
    gateway.next_beat_s, gateway.ttl_s = 10 * SLOW_MACHINE_S, 100 * SLOW_MACHINE_S
    await run_canary(gateway, daemons)
    gateway.socket_open = False
    seen = len(gateway.beats)
    await gateway.sockets["node-1"].close()
    await gateway.until(lambda: len(gateway.beats) > seen + 2)
    seen, began = len(gateway.beats), time.monotonic()
    await asyncio.sleep(1)
    assert len(gateway.beats) - seen <= 3 + time.monotonic() - began


async def test_a_rejected_commit_is_a_failed_attempt(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    await run_canary(gateway, daemons)
    gateway.reject_next = True
    died, *_ = await awaited_reports(gateway, wire.ProcessExited)
    assert "rejected" in died.error
    await continue_for(gateway, 200)
    assert_canary_is_exact(gateway, 1)


async def test_revoked_token_ends_the_daemon_with_a_sentence(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    daemon = await run_canary(gateway, daemons)
    gateway.revoked = True
    assert await asyncio.wait_for(daemon.wait(), SLOW_MACHINE_S) == 4
    assert "was revoked" in daemons.log()
