"""Artifacts and environments on a node daemon: obtained in prepare, cached, kept apart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil

from chaos.harness.installation import SLOW_MACHINE_S, budget_s
from portfolios.runtime.state import decode_state
from scheduling.wire import messages as wire
from tests.support import wheels
from tests.support.daemons import (
    Daemons,
    alive,
    assert_canary_is_exact,
    awaited_reports,
    continue_for,
    family,
    reports,
)
from tests.support.fake_gateway import FakeGateway


def offer(gateway: FakeGateway, data: bytes) -> str:
    """Have the gateway serve a file; return its hash."""
    gateway.files[wheels.sha256_of(data)] = data
    return wheels.sha256_of(data)


def counter_entry(
    gateway: FakeGateway, portfolio: int, artifact: str, **other: str
) -> wire.DesiredEntry:
    """Return the entry of a portfolio that runs the counter of an artifact."""
    return gateway.entry(portfolio, "run", strategy="counter", artifact=artifact, **other)


def mark_of(gateway: FakeGateway, portfolio: int) -> str | None:
    """Return which version of the strategy has written the newest state of a portfolio."""
    state = gateway.runs[portfolio].state
    return None if state is None else decode_state(state).strategy.data.get("mark")


def process_of(gateway: FakeGateway, portfolio: int) -> psutil.Process:
    """Return the process of a portfolio, as the newest heartbeat names it."""
    (pid,) = {p.pid for p in gateway.beats[-1][1].portfolios if p.portfolio == portfolio}
    return psutil.Process(pid)


def failed_steps(gateway: FakeGateway) -> dict[int, wire.StepFailed]:
    """Return the reports of failed steps by their handoff."""
    return {report.handoff: report for report in reports(gateway, wire.StepFailed)}


async def test_two_versions_of_one_package_run_side_by_side_and_restart_from_the_same_bytes(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    old, new = (offer(gateway, wheels.counter(mark).data()) for mark in ("old", "new"))
    for portfolio in (1, 2):
        gateway.grant("node-1", portfolio)
    await gateway.want("node-1", counter_entry(gateway, 1, old), counter_entry(gateway, 2, new))
    daemon = await daemons.start()
    await gateway.until(lambda: (mark_of(gateway, 1), mark_of(gateway, 2)) == ("old", "new"))
    gateway.files.clear()  # neither restart may need them
    await gateway.until(lambda: {p.phase for p in gateway.beats[-1][1].portfolios} == {"running"})
    process_of(gateway, 1).kill()
    await awaited_reports(gateway, wire.ProcessExited)
    await continue_for(gateway)
    daemon.kill()
    await daemon.wait()
    await daemons.start()
    await continue_for(gateway)
    await continue_for(gateway, portfolio=2)
    assert (mark_of(gateway, 1), mark_of(gateway, 2)) == ("old", "new")
    assert sorted(gateway.fetched) == sorted([old, new])  # each once


async def test_artifact_that_cannot_be_used_fails_its_prepare_with_a_sentence(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    good = wheels.counter("x").data()
    broken = wheels.Wheel({"counting.py": "import absent"}, {"counter": "counting:Counter"})
    lock = f"absent-package==1.0 --hash=sha256:{'0' * 64}\n".encode()
    cases = {
        2: ({"artifact": "0" * 64},
            "artifact 000000000000 is not available: the gateway answered 404: "),
        5: ({"artifact": offer(gateway, broken.data())}, "No module named 'absent'"),
        6: ({"artifact": offer(gateway, good), "strategy": "another"},
            "has no strategy 'another'; it has: counter"),
        7: ({"artifact": offer(gateway, good), "environment": offer(gateway, lock)},
            "absent-package was not found"),
        8: ({"artifact": offer(gateway, b"not a wheel")}, "is not a valid wheel: "),
    }  # fmt: skip
    gateway.grant("node-1", 1)
    for portfolio in cases:
        gateway.grant("elsewhere", portfolio)
    prepared = [
        gateway.entry(number, "prepare", handoff=number, **({"strategy": "counter"} | given))
        for number, (given, _) in cases.items()
    ]
    await gateway.want("node-1", gateway.entry(1, "run"), *prepared)
    await daemons.start(UV_NO_INDEX="1")
    await gateway.until(lambda: failed_steps(gateway).keys() == cases.keys())
    failed = failed_steps(gateway)
    for portfolio, (_, expected) in cases.items():
        assert expected in failed[portfolio].error, portfolio
    # The revision is at fault where no other node could run it either.
    assert {handoff for handoff, report in failed.items() if report.strategy_failed} == {5, 6, 8}
    await continue_for(gateway)
    assert_canary_is_exact(gateway, 1)


async def test_slow_download_delays_no_other_portfolio_and_no_heartbeat(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    slow = [offer(gateway, wheels.counter(f"{number}").data()) for number in range(17)]
    gateway.files_wait = asyncio.Event()
    gateway.next_beat_s = 0.2
    gateway.grant("node-1", 1)
    for number in range(17):
        gateway.grant("elsewhere", 10 + number)
    prepared = [
        gateway.entry(10 + n, "prepare", handoff=n + 1, strategy="counter", artifact=sha)
        for n, sha in enumerate(slow)
    ]
    await gateway.want("node-1", gateway.entry(1, "run"), *prepared)
    await daemons.start()
    await gateway.until(lambda: gateway.fetched)
    beats = len(gateway.beats)
    await continue_for(gateway, 100)
    await gateway.until(lambda: len(gateway.beats) > beats + 3)
    assert not reports(gateway, wire.Prepared)
    # A download that stands still is given up after 20 s.
    assert gateway.longest_gap_s(1) < budget_s(5)
    await gateway.want("node-1", gateway.entry(1, "run"), prepared[0])  # one process is enough
    gateway.files_wait.set()
    await awaited_reports(gateway, wire.Prepared)
    assert_canary_is_exact(gateway, 1)


async def test_end_of_a_forkserver_ends_only_the_children_of_its_environment(
    gateway: FakeGateway, daemons: Daemons, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    source = wheels.COUNTER.format(mark="", name="counter") + WHAT_IT_SEES
    wheel = wheels.Wheel({"counting.py": source}, {"counter": "counting:Counter"})
    artifact = offer(gateway, wheel.data())
    locks = [offer(gateway, publish(index, version).encode()) for version in ("1.0", "2.0")]
    for portfolio in (1, 2, 3):
        gateway.grant("node-1", portfolio)
    await gateway.want(
        "node-1",
        counter_entry(gateway, 1, artifact, environment=locks[0]),
        counter_entry(gateway, 2, artifact, environment=locks[1]),
        gateway.entry(3, "run"),
    )
    daemon = await daemons.start(UV_NO_INDEX="1", UV_FIND_LINKS=str(index))
    await gateway.until(lambda: mark_of(gateway, 1) and mark_of(gateway, 2))
    seen = "preloaded by a process that writes no file, without the node's packages"
    assert (mark_of(gateway, 1), mark_of(gateway, 2)) == (f"1.0 {seen}", f"2.0 {seen}")
    await gateway.until(lambda: {p.phase for p in gateway.beats[-1][1].portfolios} == {"running"})
    first, second, third = (process_of(gateway, portfolio) for portfolio in (1, 2, 3))
    assert len({process.ppid() for process in (first, second, third)}) == 3
    psutil.Process(first.ppid()).kill()
    await gateway.until(lambda: not alive([first]))
    await continue_for(gateway)
    assert len(alive([second, third])) == 2
    processes = family(daemon.pid)
    daemon.kill()
    await daemon.wait()
    _, left = await asyncio.to_thread(psutil.wait_procs, processes, SLOW_MACHINE_S)
    assert left == []


WEIGHTS = """
import os
VALUE, PID, HOW = {version!r}, os.getpid(), "writes files"
try:
    open({file!r}, "w")
except OSError:
    HOW = "writes no file"
"""
WHAT_IT_SEES = """
import importlib.util, os, weights
who = "preloaded by" if weights.PID != os.getpid() else "imported by"
packages = "with" if importlib.util.find_spec("psutil") else "without"
MARK = f"{weights.VALUE} {who} a process that {weights.HOW}, {packages} the node's packages"
"""


def publish(index: Path, version: str) -> str:
    """Put a package into a folder, and return a lock that pins and preloads it."""
    source = WEIGHTS.format(version=version, file=str(index / "written"))
    data = wheels.Wheel({"weights.py": source}, {}, "weights", version).data()
    (index / f"weights-{version}-py3-none-any.whl").write_bytes(data)
    return f"# preload: weights\nweights=={version} --hash=sha256:{wheels.sha256_of(data)}\n"
