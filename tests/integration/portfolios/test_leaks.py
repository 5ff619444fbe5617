"""Daemon and portfolio processes hold no more memory, files or threads after much work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise

import psutil

from scheduling.wire import messages as wire
from tests.support.daemons import Daemon, Daemons, alive, assert_canary_is_exact, family, reports
from tests.support.fake_gateway import FakeGateway

MB = 1 << 20
FIRST, LAST = 6, 21  #: reloads: what is made once and kept is made by the first ones
EVENTS = 40_000
#: Connections to the gateway: kept for a minute each, and as many as there were requests at a time.
CONNECTIONS = 10


@dataclass(frozen=True)
class Holds:
    """What a process holds."""

    fds: int  #: without connections
    connections: int
    threads: int
    children: int
    rss: int

    @classmethod
    def now(cls, pid: int) -> Holds:
        process = psutil.Process(pid)
        children = len(alive(process.children(recursive=True)))
        fds, connections = process.num_fds(), len(process.net_connections("tcp"))
        rss = process.memory_info().rss
        return cls(fds - connections, connections, process.num_threads(), children, rss)


async def holds(*pids: int) -> list[Holds]:
    """Return what each process holds at that of ten moments at which it is least: at another, a
    connection may be half-made."""
    moments = []
    for _ in range(10):
        moments.append([Holds.now(pid) for pid in pids])
        await asyncio.sleep(0.03)
    return [min(of_one, key=lambda at: at.fds) for of_one in zip(*moments, strict=True)]


async def reload(gateway: FakeGateway, handoff: int) -> None:
    """Put a new process in the place of the one that runs, as a reload does."""
    there = gateway.entry(1, "prepare", handoff=handoff)
    await gateway.want("node-1", gateway.entry(1, "run"), there)
    await gateway.until(lambda: wire.Prepared(handoff=handoff) in reports(gateway, wire.Prepared))
    await gateway.want("node-1", gateway.entry(1, "drain", handoff=handoff), there)
    await gateway.until(lambda: gateway.runs[1].commits[-1].release == handoff)
    warm = gateway.entry(1, "warm", handoff=handoff)
    epoch = gateway.grant("node-1", 1)
    await gateway.want("node-1", gateway.entry(1, "run", handoff=handoff), warm)
    await gateway.until(lambda: gateway.runs[1].commits[-1].epoch == epoch)
    await gateway.want("node-1", gateway.entry(1, "run"))


async def after_reloads(gateway: FakeGateway, daemon: Daemon, *counts: int) -> list[list[Holds]]:
    """Return what daemon and forkserver hold after each of these numbers of reloads."""
    found = []
    for done, count in pairwise((0, *counts)):
        for handoff in range(done + 1, count + 1):
            await reload(gateway, handoff)
        # The forkserver and the canary.
        await gateway.until(lambda: len(family(daemon.pid)) == 2, every_s=0.05)
        seen = gateway.committed(1)
        await gateway.until(lambda seen=seen: gateway.committed(1) > seen + 30)
        (forkserver,) = psutil.Process(daemon.pid).children()
        found.append(await holds(daemon.pid, forkserver.pid))
    return found


def assert_no_more(early: list[Holds], late: list[Holds]) -> None:
    """Assert that each process holds what it held, but for memory."""
    for before, after in zip(early, late, strict=True):
        held = (before.fds, before.threads, before.children)
        assert (after.fds, after.threads, after.children) == held
        assert after.connections <= CONNECTIONS


async def test_reloads_leak_no_memory_files_or_threads_in_daemon_and_forkserver(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.grant("node-1", 1)
    await gateway.want("node-1", gateway.entry(1, "run"))
    daemon = await daemons.start()
    await gateway.until(lambda: gateway.runs[1].commits, 60)
    early, late = await after_reloads(gateway, daemon, FIRST, LAST)
    assert_no_more(early, late)
    for before, after in zip(early, late, strict=True):
        assert after.rss - before.rss < 2 * MB
    assert_canary_is_exact(gateway, 1)


async def test_events_leak_no_memory_or_files_in_a_portfolio_process(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    began = gateway.segments[0].from_time_us
    gateway.segments = [wire.SegmentInfo(0, began, 1000.0), wire.SegmentInfo(EVENTS, began + 1, 0)]
    gateway.grant("node-1", 1, last_seq=0)
    await gateway.want("node-1", gateway.entry(1, "run", catch_up="full"))
    daemon = await daemons.start()
    found = []
    for events in (EVENTS // 4, EVENTS):
        await gateway.until(lambda events=events: gateway.committed(1) >= events, 60)
        (child,) = psutil.Process(daemon.pid).children()[0].children()
        found.append(await holds(child.pid, daemon.pid))
    early, late = found
    assert_no_more(early, late)
    assert late[0].rss - early[0].rss < 2 * MB
    assert late[1].rss - early[1].rss < 20 * MB  # the ring of the feed has its size by then
    assert_canary_is_exact(gateway, 1)
