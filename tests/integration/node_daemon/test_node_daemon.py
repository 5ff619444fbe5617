"""The node daemon as a program: start, shutdown and crash, and settings of its own."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import psutil
import pytest

from chaos.harness.installation import SLOW_MACHINE_S, budget_s
from portfolios.runtime.state import Account, decode_state
from scheduling.node_daemon import cli
from scheduling.node_daemon.forkserver_client import ForkserverClient
from scheduling.wire.messages import Commit, ProcessExited, SegmentInfo
from tests.support.daemons import (
    FAULTY,
    ROOT,
    Daemons,
    alive,
    assert_canary_is_exact,
    continue_for,
    family,
    pids_of,
    reports,
    run_canary,
)
from tests.support.fake_gateway import FakeGateway


async def test_pause_learned_late_discards_events_that_were_never_released(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.pushing, gateway.next_beat_s = False, 0.2
    await run_canary(gateway, daemons)
    gateway.refuses_heartbeats = True
    (running,) = gateway.segments
    # Within the next commit: at the end of the last one no further commit would be needed.
    head = gateway.runs[1].last_seq + 5
    gateway.paused_at = head
    gateway.segments = [running, SegmentInfo(head, time.time_ns() // 1000, 0.0)]
    gateway.versions["node-1"] += 1
    requests = len(gateway.bodies)
    await gateway.until(lambda: len(gateway.bodies) > requests + 10)  # with unreleased events
    gateway.refuses_heartbeats = False
    await gateway.until(lambda: gateway.runs[1].last_seq == head)
    await gateway.until(lambda: [a.seq for a in gateway.beats[-1][1].portfolios] == [head])
    assert gateway.runs[1].last_seq == head
    said = {c.feed_us for c in gateway.runs[1].commits if c.to_seq > c.from_seq}
    assert said == {segment.from_time_us for segment in gateway.segments}
    assert_canary_is_exact(gateway, 1)


async def test_processes_end_with_their_forkserver_or_daemon_whatever_they_do(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.grant("node-1", 1)
    gateway.grant("node-1", 2)
    looping = gateway.entry(2, "run", strategy="looper", parameters={"at_event": 1})
    await gateway.want("node-1", gateway.entry(1, "run"), looping)
    daemon = await daemons.start(GINKGO_STRATEGIES=FAULTY)

    async def the_forkserver_a_canary_and_the_looper() -> list[psutil.Process]:
        await continue_for(gateway)
        await gateway.until(lambda: len(family(daemon.pid)) == 3, every_s=0.05)
        return family(daemon.pid)

    processes = await the_forkserver_a_canary_and_the_looper()
    psutil.Process(daemon.pid).children()[0].kill()
    await gateway.until(lambda: not alive(processes))
    processes = await the_forkserver_a_canary_and_the_looper()
    daemon.kill()
    await daemon.wait()
    await gateway.until(lambda: not alive(processes))
    assert_canary_is_exact(gateway, 1)


async def test_shutdown_waits_until_everything_is_handed_over(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    daemon = await run_canary(gateway, daemons)
    daemon.send_signal(signal.SIGTERM)
    await gateway.until(lambda: gateway.beats[-1][1].leaving)
    await continue_for(gateway)  # it goes on working meanwhile
    await gateway.want("node-1")
    assert await asyncio.wait_for(daemon.wait(), SLOW_MACHINE_S) == 0
    assert gateway.goodbyes == ["node-1"]


async def test_shutdown_during_a_freeze_ends_at_once_and_moves_no_portfolio(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    daemon = await run_canary(gateway, daemons)
    gateway.frozen = True
    daemon.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(daemon.wait(), SLOW_MACHINE_S) == 0
    assert gateway.goodbyes == ["node-1"]
    assert all(commit.release is None for commit in gateway.runs[1].commits)
    assert len(gateway.registered) == 1


async def test_second_signal_ends_the_daemon_at_once(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    daemon = await run_canary(gateway, daemons)
    daemon.send_signal(signal.SIGTERM)
    await gateway.until(lambda: gateway.beats[-1][1].leaving)
    daemon.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(daemon.wait(), SLOW_MACHINE_S) == 130


async def test_superseded_daemon_exits_with_3_without_registering_again(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    daemon = await daemons.start()
    await gateway.until(lambda: "node-1" in gateway.sockets)
    gateway.status["node-1"] = "superseded"
    await gateway.sockets["node-1"].close()  # makes it beat at once
    assert await asyncio.wait_for(daemon.wait(), SLOW_MACHINE_S) == 3
    assert len(gateway.registered) == 1


@pytest.mark.parametrize("code", ["name_in_use", "protocol"])
async def test_daemon_waits_for_an_unavailable_server_and_exits_with_4_if_that_refuses_it(
    gateway: FakeGateway, daemons: Daemons, code: str
) -> None:
    gateway.away = True
    gateway.refuse_register = (409, code, "Node node-1 runs on hk-02, pid 4711.")
    daemon = await daemons.start()
    await gateway.until(lambda: f"waiting for {gateway.url}" in daemons.log())
    assert daemon.returncode is None
    gateway.away = False
    assert await asyncio.wait_for(daemon.wait(), SLOW_MACHINE_S) == 4
    assert "Node node-1 runs on hk-02, pid 4711." in daemons.log()


async def test_a_daemon_of_the_next_version_works_with_a_gateway_that_is_not_upgraded(
    gateway: FakeGateway, daemons: Daemons, tmp_path: Path
) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "sitecustomize.py").write_text(
        "from scheduling.wire import messages\nmessages.PROTOCOL, messages.SPOKEN = 8, (7, 8)\n"
    )
    gateway.speaks = (6, 7)
    await run_canary(gateway, daemons, PYTHONPATH=f"{newer}:{ROOT}")
    assert gateway.asked_in == [8, 7]
    # A gateway of the next version knows the lease no more: the newest protocol is tried again.
    gateway.speaks = (7, 8)
    gateway.status["node-1"] = "unknown"
    await gateway.sockets["node-1"].close()
    await gateway.until(lambda: len(gateway.registered) >= 2)
    gateway.status["node-1"] = "ok"
    assert gateway.asked_in[2] == 8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--name", "a b", "--server", "http://x"], "use at most 80 letters"),
        (["--name", "a", "--server", "x"], "use an address like"),
        (["--name", "a", "--server", "http://x", "--label", "zone"], "use KEY=VALUE"),
        (["--name", "a", "--server", "http://x", "--capacity", "0"], "at least 1"),
    ],
)
def test_invalid_arguments_exit_with_2_and_a_sentence(
    arguments: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GINKGO_NODE_TOKEN", "t")
    monkeypatch.setattr(cli, "raise_open_file_limit", lambda: None)  # of this process
    monkeypatch.delattr(ForkserverClient, "launch")  # the next step of a daemon
    assert cli.main(arguments) == 2
    assert sentence in capsys.readouterr().err


async def test_position_in_a_removed_symbol_is_still_marked_and_filled(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    def account() -> Account:
        state = gateway.runs[1].state
        assert state is not None
        return decode_state(state).account

    gateway.segments = [gateway.segments[0].__class__(0, gateway.segments[0].from_time_us, 1000.0)]
    gateway.grant("node-1", 1, last_seq=gateway.head())
    both = gateway.entry(1, "run", strategy="buy_and_hold", symbols=["KO", "PEP"])
    await gateway.want("node-1", both)
    await daemons.start()
    await gateway.until(lambda: gateway.runs[1].state is not None and "KO" in account().positions)
    first_seq = both.spec["first_seq"]
    gateway.grant("node-1", 1, revision=2)
    one = {"strategy": "buy_and_hold", "symbols": ["PEP"], "first_seq": first_seq}
    await gateway.want("node-1", gateway.entry(1, "run", revision=2, **one))
    await gateway.until(lambda: gateway.runs[1].commits[-1].epoch == 2)
    mark = account().positions["KO"].mark_units
    await gateway.until(lambda: account().positions["KO"].mark_units != mark)


async def test_wrong_wall_clock_has_no_effect(
    gateway: FakeGateway, daemons: Daemons, tmp_path: Path
) -> None:
    off_s = tmp_path / "off_s"
    (tmp_path / "sitecustomize.py").write_text(
        "import time\n"
        "right, right_ns = time.time, time.time_ns\n"
        f"def off_s(): return int(open({str(off_s)!r}).read())\n"
        "time.time = lambda: right() + off_s()\n"
        "time.time_ns = lambda: right_ns() + off_s() * 10**9\n"
        "open(__file__ + '.used', 'w')\n"
    )
    off_s.write_text("60")
    # Both limits are far from the minute, and far from what a busy machine is late by.
    gateway.stale_order_age_s = 30.0
    assert gateway.ttl_s == 30.0
    gateway.next_beat_s = 0.5
    await run_canary(gateway, daemons, PYTHONPATH=f"{tmp_path}:{ROOT}")
    for wrong in ("60", "-60"):
        off_s.write_text(wrong)
        beats, started = len(gateway.beats), len(gateway.runs[1].commits)
        await gateway.until(lambda: len(gateway.beats) > beats + 1)  # noqa: B023
        # What it caught up on may have been stale, and behind a minute the lag would stay at 6,000.
        await gateway.until(lambda: gateway.beats[-1][1].portfolios[0].lag < 30 * 100)

        def newest() -> list[Commit]:
            return gateway.runs[1].commits[started:][-4:]  # noqa: B023

        await gateway.until(lambda: len(newest()) == 4 and not any(c.suppress for c in newest()))
        assert abs(gateway.head() - gateway.runs[1].last_seq) < 30 * 100, wrong
    assert (tmp_path / "sitecustomize.py.used").exists()
    assert reports(gateway, ProcessExited) == []
    assert_canary_is_exact(gateway, 1)


async def test_node_without_renewal_feeds_nothing_and_keeps_its_processes(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.ttl_s, gateway.next_beat_s = 2.0, 0.5
    daemon = await run_canary(gateway, daemons)
    gateway.refuses_heartbeats = True  # commits would be taken
    await gateway.until(lambda: gateway.since_commit_s(1) > 2)  # it stopped at 0.8 x 2 s
    gateway.refuses_heartbeats = False
    await continue_for(gateway, 300)
    gateway.refuses_heartbeats = True
    daemon.send_signal(signal.SIGSTOP)
    fed = gateway.runs[1].last_seq
    await asyncio.sleep(2.5)
    daemon.send_signal(signal.SIGCONT)
    refused = gateway.refused_heartbeats
    await gateway.until(lambda: gateway.refused_heartbeats > refused + 1)
    # At most what it had computed when it was suspended: 250 events have come since.
    assert gateway.runs[1].last_seq < fed + 100
    gateway.refuses_heartbeats = False
    await continue_for(gateway, 300)
    assert {commit.epoch for commit in gateway.runs[1].commits} == {1}
    assert len(pids_of(gateway)) == 1
    assert_canary_is_exact(gateway, 1)


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
    assert reports(gateway, ProcessExited) == []


async def test_revoked_token_ends_the_daemon_with_a_sentence(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    daemon = await daemons.start()
    await gateway.until(lambda: "node-1" in gateway.sockets)
    gateway.revoked = True
    await gateway.sockets["node-1"].close()
    assert await asyncio.wait_for(daemon.wait(), SLOW_MACHINE_S) == 4
    assert "was revoked" in daemons.log()
