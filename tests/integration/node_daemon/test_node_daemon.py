"""The node daemon as a program: start, work, shutdown and crash."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from chaos.harness.installation import SLOW_MACHINE_S
from portfolios.runtime.state import Account, decode_state
from scheduling.node_daemon import cli
from scheduling.node_daemon.forkserver_client import ForkserverClient
from scheduling.wire.messages import CommitRequest, SegmentInfo
from tests.support.daemons import (
    FAULTY,
    ROOT,
    Daemons,
    alive,
    assert_canary_is_exact,
    continue_for,
    family,
    run_canary,
)
from tests.support.fake_gateway import FakeGateway


async def test_daemon_registers_and_commits_every_event_in_order(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    await run_canary(gateway, daemons, 150)
    assert gateway.registered[0][1].strategies["canary"] == 1
    assert gateway.runs[1].commits[0].from_seq == gateway.runs[1].commits[0].to_seq
    assert_canary_is_exact(gateway, 1)


async def test_portfolios_of_one_node_share_their_commit_requests(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    for portfolio in (1, 2, 3):
        gateway.grant("node-1", portfolio)
    await gateway.want("node-1", *(gateway.entry(p, "run") for p in (1, 2, 3)))
    await daemons.start()

    def commits_in(bodies: list[bytes]) -> int:
        return sum(len(msgspec.msgpack.decode(b, type=CommitRequest).commits) for b in bodies)

    # At some time: on a slow machine they are seldom ready within the same 3 ms.
    await gateway.until(lambda: commits_in(gateway.bodies[-30:]) >= 45)


async def test_portfolio_without_events_of_its_symbols_commits_many_seqs_at_once(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.grant("node-1", 1)
    await gateway.want("node-1", gateway.entry(1, "run", strategy="sma_cross", symbols=["ZMH"]))
    await daemons.start()
    await gateway.until(lambda: gateway.committed(1) > 60)
    assert len(gateway.runs[1].commits) < 12  # not one for each event of the others


@pytest.mark.slow
async def test_pause_learned_late_discards_events_that_were_never_released(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.pushing = False
    await run_canary(gateway, daemons)
    (running,) = gateway.segments
    # Within the next commit: at the end of the last one no further commit would be needed.
    head = gateway.runs[1].last_seq + 5
    gateway.paused_at = head
    gateway.segments = [running, SegmentInfo(head, time.time_ns() // 1000, 0.0)]
    gateway.versions["node-1"] += 1
    await gateway.until(lambda: gateway.runs[1].last_seq == head)
    await gateway.until(lambda: [a.seq for a in gateway.beats[-1][1].portfolios] == [head])
    assert gateway.runs[1].last_seq == head
    said = {c.feed_us for c in gateway.runs[1].commits if c.to_seq > c.from_seq}
    assert said == {segment.from_time_us for segment in gateway.segments}
    assert_canary_is_exact(gateway, 1)


async def run_canary_and_looper(
    gateway: FakeGateway, daemons: Daemons
) -> asyncio.subprocess.Process:
    """Run canary 1, and a portfolio whose process never answers. Return the daemon."""
    gateway.grant("node-1", 1)
    gateway.grant("node-1", 2)
    looping = gateway.entry(2, "run", strategy="looper", parameters={"at_event": 1})
    await gateway.want("node-1", gateway.entry(1, "run"), looping)
    daemon = await daemons.start(GINKGO_STRATEGIES=FAULTY)
    await gateway.until(lambda: gateway.committed(1) > 50)
    return daemon


async def test_kill_9_of_the_daemon_leaves_no_process_behind(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    daemon = await run_canary_and_looper(gateway, daemons)
    await gateway.until(lambda: len(family(daemon.pid)) == 3)
    processes = family(daemon.pid)  # the forkserver, a canary, the looper
    daemon.kill()
    await daemon.wait()
    await gateway.until(lambda: not alive(processes))


async def test_killing_the_forkserver_restarts_every_portfolio(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    daemon = await run_canary_and_looper(gateway, daemons)
    children = family(daemon.pid)[1:]
    psutil.Process(daemon.pid).children()[0].kill()
    await gateway.until(lambda: not alive(children))  # the looping one too
    await continue_for(gateway, 150)
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
    daemon = await run_canary(gateway, daemons)
    gateway.next_beat_s, gateway.status["node-1"] = 0.1, "superseded"
    await gateway.sockets["node-1"].close()  # makes it beat at once
    assert await asyncio.wait_for(daemon.wait(), SLOW_MACHINE_S) == 3
    assert len(gateway.registered) == 1


async def test_daemon_with_an_unknown_lease_registers_again(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    await run_canary(gateway, daemons)
    gateway.status["node-1"] = "unknown"
    gateway.grant("node-1", 1)
    gateway.entries["node-1"] = [gateway.entry(1, "run")]
    gateway.versions["node-1"] = 0  # even if the server's versions went back
    await gateway.sockets["node-1"].close()
    await gateway.until(lambda: len(gateway.registered) >= 2)
    gateway.status["node-1"] = "ok"
    await gateway.until(lambda: gateway.runs[1].commits[-1].epoch == 2)
    (_, first), (_, second) = gateway.registered[:2]
    assert first.incarnation == second.incarnation
    assert_canary_is_exact(gateway, 1)


async def test_new_lease_gets_a_new_socket_and_its_registration_number_is_sent(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.next_beat_s = 0.1
    await daemons.start()
    await gateway.until(lambda: "node-1" in gateway.sockets)
    first = gateway.sockets["node-1"]
    gateway.status["node-1"] = "unknown"
    await gateway.until(lambda: len(gateway.registered) > 1)
    gateway.status["node-1"] = "ok"
    await gateway.until(lambda: gateway.sockets.get("node-1", first) is not first)
    await gateway.until(lambda: gateway.beats[-1][1].registration == len(gateway.registered))


@pytest.mark.parametrize(
    ("status", "code"), [(409, "name_in_use"), (409, "protocol"), (401, "unauthenticated")]
)
async def test_refused_registration_exits_with_4_and_a_reason(
    gateway: FakeGateway, daemons: Daemons, status: int, code: str
) -> None:
    gateway.refuse_register = (status, code, "Node node-1 runs on hk-02, pid 4711.")
    assert await asyncio.wait_for((await daemons.start()).wait(), SLOW_MACHINE_S) == 4
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


async def test_daemon_waits_for_an_unavailable_server(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.away = True
    gateway.grant("node-1", 1)
    await gateway.want("node-1", gateway.entry(1, "run"))
    await daemons.start()
    await asyncio.sleep(1.5)
    gateway.away = False
    await gateway.until(lambda: gateway.committed(1) > 20)


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


async def test_prints_and_the_traceback_of_a_failure_reach_the_gateway(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    parameters = {"at_event": 20, "action": "print_and_raise"}
    gateway.grant("node-1", 1)
    await gateway.want(
        "node-1", gateway.entry(1, "run", strategy="misbehaving", parameters=parameters)
    )
    daemon = await daemons.start(GINKGO_STRATEGIES=FAULTY)
    await gateway.until(lambda: any("RuntimeError" in line[3] for line in gateway.log_lines))
    texts = [
        text for _, portfolio, epoch, text in gateway.log_lines if (portfolio, epoch) == (1, 1)
    ]
    assert texts[0] == "  about to raise"
    assert any(text.startswith("Traceback") for text in texts)
    assert len(texts) == len(gateway.log_lines)
    daemon.send_signal(signal.SIGTERM)
    await daemon.wait()


async def test_a_warm_up_that_finds_too_few_events_writes_a_log_line(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.grant("node-1", 1, last_seq=2)
    await gateway.want("node-1", gateway.entry(1, "run", strategy="every_order", symbols=["AA"]))
    await daemons.start(GINKGO_STRATEGIES="tests.support.strategies.every_order")
    wanted = "(Ginkgo) The warm-up has 1 of 5 events: feed replay has no more of these symbols"
    await gateway.until(lambda: any(wanted in line for *_, line in gateway.log_lines))
