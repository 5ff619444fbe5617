"""Measure recorded feeds in PostgreSQL and in JetStream, in turns, in one run.

    bin/bench feeds [EVENTS=20000] [RUNS=2] [PACED_S=4]

It takes a minute or two, on busy cores three. With 100000 3 10 the rates vary less.

A database, a NATS server, a web process and a node daemon are started. Recorded: appends of 1,000
events and of one, until the head that everybody sees has followed. Read: pages of 5,000 records
through the gateway, decoded as a node does. Through: from the first append until five portfolios on
the node have committed the last event. Event to order: from before the append of one trade until
the order of it is in the database. Paced: 50,000 events a second for PACED_S seconds into the node,
and by how much its portfolios are behind. `against` is PostgreSQL in the same run.
"""

from __future__ import annotations

import asyncio
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from bench.commit import PORT, own_database, web_process
from bench.result_table import as_table, given_numbers, row
from chaos.harness.nats_server import NatsServer
from ginkgo_site.env import CHECKOUT
from portfolios.runtime.events import Event, Trade, decode_event

SERVER = f"http://127.0.0.1:{PORT}"
BATCH = 1_000
PAGE = 5_000
PORTFOLIOS = 5
PACE = 50_000  #: events a second
ORDERS = 100
WAIT_S = 300.0


def main() -> None:
    events, runs, paced_s = given_numbers(20_000, 2, 4)
    with own_database(), tempfile.TemporaryDirectory() as folder:
        nats = NatsServer(Path(folder) / "nats")
        nats.start()
        os.environ |= {"GINKGO_NATS_URL": nats.url, "GINKGO_VERIFY_INTERVAL_S": "0"}
        os.environ["DJANGO_SETTINGS_MODULE"] = "ginkgo_site.settings"
        try:
            import django
            from django.core.management import call_command

            django.setup()
            call_command("migrate", verbosity=0)
            with web_process("ginkgo_site.asgi:application"), node(Path(folder)) as token:
                print(as_table(measure(token, events, runs, paced_s)))
        finally:
            nats.kill()


@contextmanager
def node(folder: Path) -> Iterator[str]:
    """Run a node daemon; yield its token."""
    from scheduling.operations.tokens import issue_node_token

    token = issue_node_token("node-1", actor="bench")
    with (folder / "node.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "scheduling.node_daemon", "--name", "node-1",
             "--server", SERVER, "--capacity", str(2 * PORTFOLIOS)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "GINKGO_NODE_TOKEN": token,
                 "GINKGO_NODE_CACHE": str(folder / "cache")},
            stderr=log,
        )  # fmt: skip
    try:
        yield token
    finally:
        process.terminate()
        process.wait(30)


def measure(token: str, events: int, runs: int, paced_s: int) -> list[dict[str, Any]]:
    """Return the rows: rates of `events`, measured `runs` times, and PACE for `paced_s`."""
    from portfolios.models import FeedRow
    from scheduling.models import Node
    from scheduling.operations.feeds import NewInstrument, create_feed
    from scheduling.operations.portfolios import NewPortfolio, create_portfolio
    from scheduling.scheduler import Scheduler

    instruments = [NewInstrument(name, Decimal("0.00001")) for name in ("EURUSD", "KO")]
    names = ("postgres", "jetstream")
    for name in names:
        create_feed(name, instruments, in_stream=name == "jetstream", actor="bench")
    feeds = {name: FeedRow.objects.select_related("writer").get(name=name) for name in names}
    logs = Logs(feeds)
    try:
        recorded = in_turns(names, runs, lambda name: logs.append_rate(name, events, BATCH))
        singles = min(events // 100, 200)
        singly = in_turns(names, runs, lambda name: logs.append_rate(name, singles, 1))
        node_1 = Node.objects.filter(name="node-1", status="alive")
        wait_until(node_1.exists, "the node has not registered")
        for name in names:
            for number in range(PORTFOLIOS):
                crossing = number == 0  # it orders at each trade of KO; the others see all
                given = NewPortfolio(
                    f"{name}-{number}",
                    "sma_cross" if crossing else "canary",
                    config={"fast": 1, "slow": 2, "quantity": "1"} if crossing else {},
                    symbols=["KO"] if crossing else [],
                    feed=name,
                )
                create_portfolio(given, actor="bench")
        scheduler, wanted = Scheduler("bench"), PORTFOLIOS * len(names)
        wait_until(
            lambda: _tick_and_count(scheduler, wanted), "not every portfolio runs", every_s=0.2
        )
        read = in_turns(names, runs, lambda name: logs.read_rate(name, token))
        orders = {name: logs.order_times(name) for name in names}
        through = in_turns(names, runs, lambda name: logs.through_rate(name, events))
        paced = logs.append_at_pace("jetstream", paced_s)
    finally:
        logs.close()
    rows = []
    for figure, found, unit in (
        (f"recorded, {BATCH:,} an append", recorded, "events/s"),
        ("recorded, one an append", singly, "events/s"),
        ("read through the gateway", read, "events/s"),
        (f"through {PORTFOLIOS} portfolios", through, "events/s"),
    ):
        against = statistics.median(found["postgres"])
        for name in names:
            rows.append(
                row(
                    name, figure, statistics.median(found[name]), unit,
                    spread=sorted(round(each) for each in found[name]),
                    against=None if name == "postgres" else against,
                )
            )  # fmt: skip
    for name in names:
        rows += order_rows(name, sorted(orders[name]))
    rate, behind, caught_up_s = paced
    rows.append(row("jetstream", "paced into one node: recorded", rate, "events/s",
                    target=f"{PACE:,}, less 2 %", met=rate >= PACE * 0.98))  # fmt: skip
    rows.append(row("jetstream", "paced: the slowest portfolio is behind, median",
                    statistics.median(behind), "events"))  # fmt: skip
    rows.append(row("jetstream", "paced: at the end", behind[-1], "events",
                    note=f"caught up {caught_up_s:.1f} s after the last append"))  # fmt: skip
    return rows


def order_rows(name: str, times: list[float]) -> list[dict[str, Any]]:
    """Return the rows of the sorted times from event to order."""
    missing = ORDERS - len(times)
    note = ""
    if missing:
        note = f"{missing} of {ORDERS} trades gave no order: too late, or before the averages"
    found = []
    for share, target_s in ((50, 0.020), (99, 0.100)):
        took_s = times[len(times) * share // 100] if times else math.inf
        found.append(
            row(
                name, f"event to order in the database, p{share}", took_s * 1e3, "ms",
                target=f"{target_s * 1e3:.0f} ms", met=took_s <= target_s,
                note=note if share == 50 else "",
            )
        )  # fmt: skip
    return found


def _tick_and_count(scheduler: Any, wanted: int) -> bool:
    """Run a pass, as there is no watcher. Return whether `wanted` portfolios run."""
    from scheduling.models import Run

    scheduler.tick()
    return Run.objects.filter(phase="running").count() == wanted


def in_turns(
    names: tuple[str, ...], runs: int, call: Callable[[str], float]
) -> dict[str, list[float]]:
    """Return the results of `runs` calls for each name, made in turns: all meet the same load."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(runs):
        for name in names:
            found[name].append(call(name))
            print(f"{name}: {found[name][-1]:,.0f}/s", file=sys.stderr, flush=True)
    return found


def wait_until(holds: Callable[[], bool], failure: str, every_s: float = 0.005) -> None:
    """Wait until `holds()` is true; exit with the text `failure` if that takes over WAIT_S."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > WAIT_S:
            raise SystemExit(f"feeds: {failure} after {WAIT_S:g} s.")
        time.sleep(every_s)


class Logs:
    """The writers of both feeds, on an event loop of their own."""

    def __init__(self, feeds: dict[str, Any]) -> None:
        """Connect, and claim both feeds."""
        from ginkgo_site.database import conninfo

        self._feeds = feeds
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._logs: dict[str, Any] = {}
        self._epochs: dict[str, int] = {}
        self._appended: dict[str, int] = {}  #: the newest seq that was appended, by feed
        self._watch = psycopg.connect(conninfo(), autocommit=True)
        self._run(self._open())

    def _wait_until(self, holds: Callable[[], bool], every_s: float = 0.002) -> None:
        """Wait until `holds()`. Tasks of the event loop let the head follow appends meanwhile."""

        async def wait() -> None:
            began = time.monotonic()
            while not holds():
                if time.monotonic() - began > WAIT_S:
                    raise SystemExit(
                        "feeds: the head of a feed or its portfolios did not reach the newest"
                        f" appended seq within {WAIT_S:g} s (by feed: {self._appended})."
                        " Is the machine busy?"
                    )
                await asyncio.sleep(every_s)

        self._run(wait())

    def _run(self, call: Awaitable[Any]) -> Any:
        return self._loop.run_until_complete(call)

    async def _open(self) -> None:
        """Open and claim the log of each feed."""
        from scheduling.operations.feed_recorders import log_of
        from scheduling.recorded_feeds.recorder_session import RecorderSession

        for name, feed in self._feeds.items():
            session = RecorderSession(name, feed.pk)
            self._stack.push_async_callback(session.close)
            log = await self._stack.enter_async_context(log_of(feed, session))
            self._logs[name] = log
            self._epochs[name] = await log.claim("bench")
            self._appended[name] = 0

    def close(self) -> None:
        """Release the feeds."""

        async def release() -> None:
            for name, log in self._logs.items():
                await log.release(self._epochs[name])
            await self._stack.aclose()

        self._run(release())
        self._watch.close()

    def append_rate(self, name: str, events: int, batch: int) -> float:
        """Append events. Return how many per second, timed until the head has reached the last."""
        began = time.perf_counter()
        self._run(self._append(name, events, batch))
        self._wait_until(lambda: self._head(name) >= self._appended[name], 0.001)
        return events / (time.perf_counter() - began)

    async def _append(self, name: str, events: int, batch: int, symbol: str = "EURUSD") -> None:
        for _ in range(events // batch):
            head = self._appended[name]
            await self._logs[name].append(self._epochs[name], head, trades(head, batch, symbol))
            self._appended[name] = head + batch

    def _head(self, name: str) -> int:
        return self._query_seq("SELECT head FROM portfolios_feedwriter WHERE feed_id = %s", name)

    def _lowest_seq(self, name: str) -> int:
        """Return the seq up to which every portfolio of the feed has committed."""
        return self._query_seq(
            "SELECT min(r.last_seq) FROM scheduling_run r JOIN portfolios_portfolio p"
            " ON p.id = r.portfolio_id WHERE p.feed_id = %s",
            name,
        )

    def _query_seq(self, statement: str, name: str) -> int:
        ((seq,),) = self._watch.execute(statement.encode(), (self._feeds[name].pk,))
        return int(seq or 0)

    def read_rate(self, name: str, token: str) -> float:
        """Return the records per second that one reader decodes, over all that are kept."""
        from scheduling.models import Lease
        from scheduling.node_daemon.config import NodeConfig
        from scheduling.node_daemon.control_plane_client import ControlPlaneClient
        from scheduling.wire.messages import FeedRequest

        incarnation = str(Lease.objects.values_list("incarnation", flat=True).get())
        head = self._head(name)

        async def read() -> None:
            at = 0
            config = NodeConfig(name="node-1", server=SERVER, token=token)
            async with ControlPlaneClient(config) as client:
                while at < head:
                    answer = await client.feed(
                        FeedRequest(incarnation=incarnation, feed=name, after=at, limit=PAGE)
                    )
                    for encoded in answer.events:
                        at += 1
                        seq = decode_event(encoded).seq
                        assert seq == at, f"the gateway sent seq {seq} of {name}, not {at}"

        began = time.perf_counter()
        self._run(read())
        return head / (time.perf_counter() - began)

    def through_rate(self, name: str, events: int) -> float:
        """Return events per second from the first append until all portfolios have committed."""
        began = time.perf_counter()
        self._run(self._append(name, events, BATCH))
        self._wait_until(lambda: self._lowest_seq(name) >= self._appended[name])
        return events / (time.perf_counter() - began)

    def _has_order(self, name: str, seq: int) -> bool:
        found = self._watch.execute(
            "SELECT FROM portfolios_order o JOIN portfolios_portfolio p ON p.id = o.portfolio_id"
            " WHERE p.feed_id = %s AND o.seq = %s",
            (self._feeds[name].pk, seq),
        )
        return found.fetchone() is not None

    def _is_handled(self, name: str, seq: int) -> bool:
        return self._has_order(name, seq) or self._lowest_seq(name) >= seq

    def order_times(self, name: str) -> list[float]:
        """Append ORDERS trades. Return the seconds of each until its order, if any, was stored."""
        times = []
        for _ in range(ORDERS):
            began = time.perf_counter()
            self._run(self._append(name, 1, 1, "KO"))
            seq = self._appended[name]
            self._wait_until(partial(self._is_handled, name, seq), 0.0005)
            took = time.perf_counter() - began
            # The first two only fill the averages; one that came too late to be traded has none.
            if self._has_order(name, seq):
                times.append(took)
            self._run(asyncio.sleep(0.03))
        return times

    def append_at_pace(self, name: str, seconds: int) -> tuple[float, list[int], float]:
        """Append PACE events a second for `seconds`.

        Return the rate, the events by which the slowest portfolio was behind (ten times a second),
        and the seconds it took to catch up.
        """
        began, behind, batch = time.perf_counter(), [], PACE // 100
        for step in range(seconds * 100):
            self._run(self._append(name, batch, batch))
            if step % 10 == 9:
                behind.append(self._appended[name] - self._lowest_seq(name))
            self._run(asyncio.sleep(max(began + (step + 1) / 100 - time.perf_counter(), 0)))
        rate = seconds * PACE / (time.perf_counter() - began)
        ended = time.perf_counter()
        self._wait_until(lambda: self._lowest_seq(name) >= self._appended[name])
        return rate, behind, time.perf_counter() - ended


def trades(after: int, count: int, symbol: str) -> list[Event]:
    """Return trades whose price goes up and down, so that a crossing strategy orders at each."""
    return [
        Trade(0, symbol, number * 1_000, 0, 107_000 + (number % 2) * 10, 1, 5)
        for number in range(after + 1, after + count + 1)
    ]


if __name__ == "__main__":
    main()
