"""A running node daemon: its commits and logs, and faults of portfolios, server and network."""

from __future__ import annotations

import asyncio
import time

import psutil
import pytest

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
from tests.support.fake_gateway import FakeGateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def gateway(shared_daemons: Daemons) -> FakeGateway:
    return shared_daemons.gateway


async def run_beside(gateway: FakeGateway, canary: int, *others: wire.DesiredEntry) -> None:
    """Let node-1 run the canary and these."""
    await gateway.want("node-1", gateway.entry(canary, "run"), *others)


async def test_portfolio_without_events_of_its_symbols_commits_many_seqs_at_once(
    gateway: FakeGateway, canary: int
) -> None:
    quiet = canary + 1
    gateway.grant("node-1", quiet)
    entry = gateway.entry(quiet, "run", strategy="sma_cross", symbols=["ZMH"])
    await run_beside(gateway, canary, entry)
    await gateway.until(lambda: gateway.committed(quiet) > 60)
    assert len(gateway.runs[quiet].commits) < 12  # not one for each event of the others


async def test_prints_and_the_traceback_of_a_failure_reach_the_gateway(
    gateway: FakeGateway, canary: int
) -> None:
    bad, parameters = canary + 1, {"at_event": 20, "action": "print_and_raise"}
    gateway.grant("node-1", bad)
    entry = gateway.entry(bad, "run", strategy="misbehaving", parameters=parameters)
    await run_beside(gateway, canary, entry)

    def lines() -> list[str]:
        return [
            text
            for _, portfolio, epoch, text in gateway.log_lines
            if (portfolio, epoch) == (bad, 1)
        ]

    await gateway.until(lambda: any("RuntimeError" in line for line in lines()))
    assert lines()[0] == "  about to raise"
    assert any(line.startswith("Traceback") for line in lines())
    assert {portfolio for _, portfolio, *_ in gateway.log_lines} == {bad}


async def test_a_warm_up_that_finds_too_few_events_writes_a_log_line(
    gateway: FakeGateway, canary: int
) -> None:
    cold = canary + 1
    gateway.grant("node-1", cold, last_seq=2)
    entry = gateway.entry(cold, "run", strategy="every_order", symbols=["AA"])
    await run_beside(gateway, canary, entry)
    wanted = "(Ginkgo) The warm-up has 1 of 5 events: feed replay has no more of these symbols"
    await gateway.until(lambda: any(wanted in line for *_, line in gateway.log_lines))


async def test_failed_portfolios_are_reported_and_others_continue(
    gateway: FakeGateway, canary: int
) -> None:
    exits, never_loads = canary + 1, canary + 2
    for portfolio in (exits, never_loads):
        gateway.grant("node-1", portfolio)
    await run_beside(
        gateway,
        canary,
        gateway.entry(exits, "run", strategy="exiter", parameters={"at_event": 30}),
        gateway.entry(never_loads, "run", strategy="raise_on_load"),
    )

    def first_deaths() -> dict[int, wire.ProcessExited]:
        return {died.portfolio: died for died in reversed(reports(gateway, wire.ProcessExited))}

    await gateway.until(lambda: first_deaths().keys() == {exits, never_loads})
    await continue_for(gateway, portfolio=canary)
    exited, unloaded = (first_deaths()[portfolio] for portfolio in (exits, never_loads))
    assert [(died.epoch, died.stage) for died in (exited, unloaded)] == [(1, "exit"), (1, "load")]
    assert "exited with status 3" in exited.error
    assert "this strategy cannot be loaded" in unloaded.error
    assert_canary_is_exact(gateway, canary)


async def test_killed_process_restarts_from_the_checkpoint_after_a_second(
    gateway: FakeGateway, canary: int
) -> None:
    psutil.Process(pids_of(gateway)[0]).kill()
    died, *_ = await awaited_reports(gateway, wire.ProcessExited)
    await continue_for(gateway, 120, canary)
    assert (died.stage, died.before_first_event) == ("exit", False)
    assert "SIGKILL" in died.error
    assert_canary_is_exact(gateway, canary)


async def test_commit_is_repeated_until_answered(gateway: FakeGateway, canary: int) -> None:
    registered = len(gateway.registered)
    gateway.away = True
    await asyncio.sleep(1.5)
    gateway.away = False
    await continue_for(gateway, 200, canary)
    assert_canary_is_exact(gateway, canary)
    assert len(gateway.registered) == registered


async def test_conflict_returns_to_the_checkpoint_in_the_same_process(
    gateway: FakeGateway, canary: int
) -> None:
    run, at = gateway.runs[canary], gateway.runs[canary].last_seq
    run.last_seq += 5  # somebody committed five events without a change of state
    run.commits.append(
        wire.Commit(portfolio=canary, epoch=1, from_seq=at, to_seq=at + 5, batch="x")
    )
    await continue_for(gateway, portfolio=canary)
    assert reports(gateway, wire.ProcessExited) == []
    assert len(pids_of(gateway)) == 1


async def test_a_rejected_commit_is_a_failed_attempt(gateway: FakeGateway, canary: int) -> None:
    gateway.reject_next = True
    died, *_ = await awaited_reports(gateway, wire.ProcessExited)
    assert "rejected" in died.error
    await continue_for(gateway, 120, canary)
    assert_canary_is_exact(gateway, canary)


async def test_node_reports_the_time_without_answers_and_sends_a_heartbeat_after_one(
    gateway: FakeGateway, canary: int
) -> None:
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


async def test_node_without_websocket_sends_a_heartbeat_each_second(
    gateway: FakeGateway, canary: int
) -> None:
    # But for that, the next one would come long after every time limit.
    gateway.next_beat_s = 10 * SLOW_MACHINE_S
    gateway.socket_open = False
    await gateway.sockets["node-1"].close()
    seen = len(gateway.beats)
    await gateway.until(lambda: len(gateway.beats) > seen + 2)
    seen, began = len(gateway.beats), time.monotonic()
    await asyncio.sleep(1)
    assert len(gateway.beats) - seen <= 3 + time.monotonic() - began


async def test_daemon_with_an_unknown_lease_registers_again_and_gets_a_new_socket(
    gateway: FakeGateway, canary: int
) -> None:
    registered, socket = len(gateway.registered), gateway.sockets["node-1"]
    gateway.grant("node-1", canary)
    gateway.entries["node-1"] = [gateway.entry(canary, "run")]
    gateway.versions["node-1"] = 0  # even if the server's versions went back
    gateway.status["node-1"] = "unknown"
    await gateway.until(lambda: len(gateway.registered) > registered)
    gateway.status["node-1"] = "ok"
    await gateway.until(lambda: gateway.runs[canary].commits[-1].epoch == 2)
    await gateway.until(lambda: gateway.sockets.get("node-1", socket) is not socket)
    await gateway.until(lambda: gateway.beats[-1][1].registration == len(gateway.registered))
    assert len({words.incarnation for _, words in gateway.registered}) == 1
    assert all(words.strategies["canary"] == 1 for _, words in gateway.registered)
    assert_canary_is_exact(gateway, canary)
