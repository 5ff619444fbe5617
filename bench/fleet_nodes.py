"""Simulated nodes: the real protocol, the real client code, and no portfolio process.

Each registers with its own token, keeps a websocket, beats when it is told to, with a line for each
portfolio that it holds, and takes every step a desired set asks for at once: a checkpoint is read,
a handoff reported as prepared, a release or a first commit sent. What it "runs" has an empty state.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from uuid import uuid4

from scheduling.node_daemon.committer import Committer
from scheduling.node_daemon.config import NodeConfig
from scheduling.node_daemon.control_plane_client import ControlPlaneClient, back_off
from scheduling.node_daemon.errors import RequestRefused, ServerUnavailable
from scheduling.node_daemon.outbox import Outbox
from scheduling.wire.messages import (
    PROTOCOL,
    CheckpointRequest,
    Commit,
    DesiredEntry,
    DesiredSet,
    Heartbeat,
    Hello,
    Prepared,
    ProcessStatus,
    Register,
)

#: Of one portfolio of each node, the sample. Not the 5 s after which the web server closes a
#: connection that nobody used.
COMMIT_EVERY_S = 4.0
MAX_AT_ONCE = 4  #: steps that one node takes at the same time


class Tally:
    """What all nodes of a fleet have seen since the last `clear`."""

    def __init__(self) -> None:
        self.beats_s: list[float] = []  #: from sending to the answer
        self.commits_s: list[float] = []
        self.refused: list[str] = []  #: beats and commits without a good answer

    def clear(self) -> None:
        """Begin to count anew."""
        self.beats_s, self.commits_s, self.refused = [], [], []


class SimulatedNode:
    """One incarnation of one node. `start` registers; `kill` is kill -9."""

    def __init__(self, config: NodeConfig, known: dict[str, dict[str, Any]], tally: Tally) -> None:
        self.config = config
        self.incarnation = str(uuid4())
        self.desired: DesiredSet | None = None
        self.heard_at = 0.0  #: of the monotonic clock: when its last beat was answered
        self._known = known  #: the strategies and feeds of Register
        self._tally = tally
        self._stand: dict[int, tuple[int, int]] = {}  #: portfolio → (epoch, seq)
        self._begun: set[tuple[str, int, int]] = set()  #: (role, portfolio, epoch or handoff)
        self._outbox = Outbox()
        self._link = ControlPlaneClient(config)
        self._beat_now = asyncio.Event()
        self._steps = asyncio.Semaphore(MAX_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Register, however long that takes, and go on from there."""
        await self._link.__aenter__()
        self._committer = Committer(self._link, self.incarnation)
        self._committer.version_seen = self._on_version
        words = Register(
            protocol=PROTOCOL,
            incarnation=self.incarnation,
            host="simulated",
            pid=os.getpid(),
            version="0",
            capacity=self.config.capacity,
            labels=dict(self.config.labels),
            **self._known,
        )
        attempt = 0
        while True:
            try:
                answer = await self._link.register(words)
                break
            except ServerUnavailable:
                await back_off(attempt, 0.2, 2.0)
                attempt += 1
        self.desired = answer.desired
        self._begin(self._listen())
        self._begin(self._beat(random.uniform(0, answer.heartbeat_interval_s)))
        self._begin(self._commit_a_sample())

    async def kill(self) -> None:
        """Say nothing more; the sockets close, as the kernel closes those of a dead process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._committer.close()
        await self._link.__aexit__()

    def adopt(self, seqs: dict[int, int]) -> None:
        """Hold these portfolios under epoch 1 as if this incarnation had run them for long."""
        self._stand = {portfolio: (1, seq) for portfolio, seq in seqs.items()}
        self._begun = {("run", portfolio, 1) for portfolio in seqs}

    def beat_now(self) -> None:
        """Send a heartbeat at once."""
        self._beat_now.set()

    @property
    def _has_version(self) -> int:
        return self.desired.version if self.desired else 0

    @property
    def holds(self) -> list[int]:
        """The portfolios it runs."""
        return sorted(self._stand)

    # --- what it says ----------------------------------------------------------------------------

    async def _beat(self, first_s: float) -> None:
        wait_s, failures = first_s, 0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._beat_now.wait()
            self._beat_now.clear()
            reports, began = self._outbox.next_reports(), time.perf_counter()
            try:
                answer = await self._link.heartbeat(
                    Heartbeat(
                        incarnation=self.incarnation,
                        have_version=self._has_version,
                        metrics={"cpu_pct": 20.0, "rss_mb": 400.0},
                        portfolios=self._actual(),
                        reports=reports,
                    )
                )
            except (ServerUnavailable, RequestRefused) as error:
                self._tally.refused.append(f"beat: {error}")
                await back_off(failures, 0.2, 2.0)
                failures += 1
                continue
            self._tally.beats_s.append(time.perf_counter() - began)
            self.heard_at = time.monotonic()
            failures = 0
            if answer.status != "ok":
                self._tally.refused.append(f"beat: {answer.status} {answer.message}")
                return
            self._outbox.mark_delivered(reports)
            if answer.desired is not None:
                self._take(answer.desired)
            wait_s = answer.next_beat_s * random.uniform(0.9, 1.0)

    def _actual(self) -> list[ProcessStatus]:
        return [
            ProcessStatus(
                portfolio=each, epoch=epoch, revision=1, phase="running", seq=seq, lag=0, pid=1
            )
            for each, (epoch, seq) in self._stand.items()
        ]

    async def _commit_a_sample(self) -> None:
        await asyncio.sleep(random.uniform(0, COMMIT_EVERY_S))
        while True:
            if self._stand:
                portfolio = min(self._stand)
                epoch, seq = self._stand[portfolio]
                began = time.perf_counter()
                if await self._commit(portfolio, epoch, seq, seq + 1) == "ok":
                    self._tally.commits_s.append(time.perf_counter() - began)
            await asyncio.sleep(COMMIT_EVERY_S)

    async def _commit(self, portfolio: int, epoch: int, at: int, to: int, **given: Any) -> str:
        """Commit, and stand there if that was accepted. Return the answer."""
        result = await self._committer.commit(
            Commit(
                portfolio=portfolio,
                epoch=epoch,
                from_seq=at,
                to_seq=to,
                batch=str(uuid4()),
                **given,
            )
        )
        if result.answer in ("ok", "keep"):
            self._stand[portfolio] = (epoch, to)
        else:
            self._stand.pop(portfolio, None)
            if result.answer not in ("handed_over", "fenced"):
                self._tally.refused.append(f"commit: {result.answer} {result.detail}")
        return result.answer

    # --- what it is told -------------------------------------------------------------------------

    async def _listen(self) -> None:
        attempt = 0
        while True:
            with suppress(ServerUnavailable):
                hello = Hello(incarnation=self.incarnation, have_version=self._has_version)
                async for pushed in self._link.pushes(hello):
                    attempt = 0
                    if pushed is not None:
                        self._take(pushed)
            self._beat_now.set()
            await back_off(attempt, 0.3, 2.0)
            attempt += 1

    def _on_version(self, version: int) -> None:
        if self.desired is not None and version > self.desired.version:
            self._beat_now.set()

    def _take(self, desired: DesiredSet) -> None:
        """Begin each step of a set that was not begun yet."""
        if self.desired is not None and desired.version < self.desired.version:
            return
        self.desired = desired
        steps = {"run": self._activate, "prepare": self._prepare, "drain": self._release}
        named: set[tuple[str, int, int]] = set()
        for entry in desired.entries:
            of = entry.epoch if entry.role == "run" else entry.handoff or 0
            named.add((entry.role, entry.portfolio, of))
            if entry.role in steps and (entry.role, entry.portfolio, of) not in self._begun:
                self._begun.add((entry.role, entry.portfolio, of))
                self._begin(steps[entry.role](entry))
        self._begun &= named
        owned = {entry.portfolio for entry in desired.entries if entry.role in ("run", "drain")}
        for portfolio in self._stand.keys() - owned:
            del self._stand[portfolio]

    async def _prepare(self, entry: DesiredEntry) -> None:
        async with self._steps:
            await self._checkpoint(entry.portfolio, entry.handoff)
        assert entry.handoff is not None
        self._outbox.add(Prepared(handoff=entry.handoff))
        self._beat_now.set()

    async def _activate(self, entry: DesiredEntry) -> None:
        async with self._steps:
            seq = await self._checkpoint(entry.portfolio, None)
            if seq is not None:
                await self._commit(entry.portfolio, entry.epoch, seq, seq)

    async def _release(self, entry: DesiredEntry) -> None:
        async with self._steps:
            epoch, seq = self._stand.get(entry.portfolio, (0, 0))
            if epoch == entry.epoch:
                await self._commit(entry.portfolio, epoch, seq, seq, release=entry.handoff)

    async def _checkpoint(self, portfolio: int, handoff: int | None) -> int | None:
        """Return the seq it stands at, or None where it is no longer this node's to read."""
        words = CheckpointRequest(
            incarnation=self.incarnation, portfolio=portfolio, handoff=handoff
        )
        attempt = 0
        while True:
            try:
                return (await self._link.checkpoint(words)).last_seq
            except RequestRefused:
                return None
            except ServerUnavailable:
                await back_off(attempt, 0.1, 1.0)
                attempt += 1

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
