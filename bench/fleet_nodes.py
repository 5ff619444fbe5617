"""Simulated nodes: the real protocol and client code, without portfolio processes.

Each node registers with its own token, keeps a websocket, sends heartbeats with a line for each
owned portfolio, and takes every step of its desired set at once: read a checkpoint, report a
handoff as prepared, send a release or a first commit. The state of its portfolios is empty.
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

#: Interval of sample commits, of one portfolio per node. Below the 5 s after which the web server
#: closes an idle connection.
COMMIT_EVERY_S = 4.0
MAX_AT_ONCE = 4  #: concurrent steps of one node


class Tally:
    """Measurements of all nodes since the last `clear`."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Reset the measurements."""
        self.beats_s: list[float] = []  #: from sending a heartbeat to its answer
        self.commits_s: list[float] = []  #: from sending a commit to its answer
        self.refused: list[str] = []  #: heartbeats and commits without a good answer


class SimulatedNode:
    """One incarnation of a simulated node. `start` registers it; `kill` acts as kill -9."""

    def __init__(self, config: NodeConfig, known: dict[str, dict[str, Any]], tally: Tally) -> None:
        self.config = config
        self.incarnation = str(uuid4())
        self.desired: DesiredSet | None = None
        self.heard_at = 0.0  #: monotonic time of the last answered heartbeat
        self._known = known  #: strategies and feeds that it reports
        self._tally = tally
        self._owned: dict[int, tuple[int, int]] = {}  #: portfolio → (epoch, seq)
        self._begun: set[tuple[str, int, int]] = set()  #: (role, portfolio, epoch or handoff)
        self._outbox = Outbox()
        self._client = ControlPlaneClient(config)
        self._beat_now = asyncio.Event()
        self._step_places = asyncio.Semaphore(MAX_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Register, with retries, and start the tasks of the node."""
        await self._client.__aenter__()
        self._committer = Committer(self._client, self.incarnation)
        self._committer.on_version = self._on_version
        message = Register(
            protocol=PROTOCOL,
            incarnation=self.incarnation,
            host="simulated",
            pid=os.getpid(),
            version="0",
            capacity=self.config.capacity,
            labels=dict(self.config.labels),
            strategies=self._known["strategies"],
            feeds=self._known["feeds"],
        )
        attempt = 0
        while True:
            try:
                answer = await self._client.register(message)
                break
            except ServerUnavailable:
                await back_off(attempt, 0.2, 2.0)
                attempt += 1
        self.desired = answer.desired
        self._begin(self._listen())
        self._begin(self._send_heartbeats(random.uniform(0, answer.heartbeat_interval_s)))
        self._begin(self._commit_sample())

    async def kill(self) -> None:
        """Stop all tasks and close the sockets, as the kernel does for a killed process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._committer.close()
        await self._client.__aexit__()

    def adopt(self, seqs: dict[int, int]) -> None:
        """Own these portfolios under epoch 1, as if this incarnation had run them before."""
        self._owned = {portfolio: (1, seq) for portfolio, seq in seqs.items()}
        self._begun = {("run", portfolio, 1) for portfolio in seqs}

    def beat_now(self) -> None:
        """Send a heartbeat at once."""
        self._beat_now.set()

    @property
    def _desired_version(self) -> int:
        return self.desired.version if self.desired else 0

    @property
    def holds(self) -> list[int]:
        """Ids of the owned portfolios."""
        return sorted(self._owned)

    # --- requests --------------------------------------------------------------------------------

    async def _send_heartbeats(self, first_s: float) -> None:
        """Send heartbeats, the first after `first_s`, until the server refuses the incarnation."""
        wait_s, failures = first_s, 0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._beat_now.wait()
            self._beat_now.clear()
            reports, began = self._outbox.next_reports(), time.perf_counter()
            try:
                answer = await self._client.heartbeat(
                    Heartbeat(
                        incarnation=self.incarnation,
                        have_version=self._desired_version,
                        metrics={"cpu_pct": 20.0, "rss_mb": 400.0},
                        portfolios=self._process_statuses(),
                        reports=reports,
                    )
                )
            except (ServerUnavailable, RequestRefused) as error:
                self._tally.refused.append(f"beat: {error}")
                await back_off(failures, 0.2, 2.0)
                failures, wait_s = failures + 1, 0
                continue
            self._tally.beats_s.append(time.perf_counter() - began)
            self.heard_at = time.monotonic()
            failures = 0
            if answer.status != "ok":
                self._tally.refused.append(f"beat: {answer.status} {answer.message}")
                return
            self._outbox.mark_delivered(reports)
            if answer.desired is not None:
                self._apply(answer.desired)
            wait_s = answer.next_beat_s * random.uniform(0.9, 1.0)

    def _process_statuses(self) -> list[ProcessStatus]:
        return [
            ProcessStatus(
                portfolio=each, epoch=epoch, revision=1, phase="running", seq=seq, lag=0, pid=1
            )
            for each, (epoch, seq) in self._owned.items()
        ]

    async def _commit_sample(self) -> None:
        """Make an empty commit for one portfolio every COMMIT_EVERY_S, to measure commits."""
        await asyncio.sleep(random.uniform(0, COMMIT_EVERY_S))
        while True:
            if self._owned:
                portfolio = min(self._owned)
                epoch, seq = self._owned[portfolio]
                began = time.perf_counter()
                # Empty: the paused feed has released nothing after `seq`.
                if await self._commit(portfolio, epoch, seq, seq) == "ok":
                    self._tally.commits_s.append(time.perf_counter() - began)
            await asyncio.sleep(COMMIT_EVERY_S)

    async def _commit(
        self, portfolio: int, epoch: int, from_seq: int, to_seq: int, **given: Any
    ) -> str:
        """Commit, and keep the new seq if accepted; return the answer. `given`: further fields."""
        result = await self._committer.commit(
            Commit(
                portfolio=portfolio,
                epoch=epoch,
                from_seq=from_seq,
                to_seq=to_seq,
                batch=str(uuid4()),
                **given,
            )
        )
        if result.answer in ("ok", "keep"):
            self._owned[portfolio] = (epoch, to_seq)
        else:
            self._owned.pop(portfolio, None)
            if result.answer not in ("handed_over", "fenced"):  # released, or owned by another node
                self._tally.refused.append(f"commit: {result.answer} {result.detail}")
        return result.answer

    # --- desired set -----------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Apply the desired sets that are pushed, and connect again after each end."""
        attempt = 0
        while True:
            with suppress(ServerUnavailable):
                hello = Hello(incarnation=self.incarnation, have_version=self._desired_version)
                async for pushed in self._client.pushes(hello):
                    attempt = 0
                    if pushed is not None:
                        self._apply(pushed)
            self._beat_now.set()
            await back_off(attempt, 0.3, 2.0)
            attempt += 1

    def _on_version(self, version: int) -> None:
        """Send a heartbeat at once if the answer to a commit names a newer desired set."""
        if self.desired is not None and version > self.desired.version:
            self._beat_now.set()

    def _apply(self, desired: DesiredSet) -> None:
        """Begin every step of a desired set that has not begun."""
        if self.desired is not None and desired.version < self.desired.version:
            return
        self.desired = desired
        steps = {"run": self._activate, "prepare": self._prepare, "drain": self._release}
        named: set[tuple[str, int, int]] = set()
        for entry in desired.entries:
            key = entry.epoch if entry.role == "run" else entry.handoff or 0
            named.add((entry.role, entry.portfolio, key))
            if entry.role in steps and (entry.role, entry.portfolio, key) not in self._begun:
                self._begun.add((entry.role, entry.portfolio, key))
                self._begin(steps[entry.role](entry))
        self._begun &= named  # forget steps that have ended
        owned = {entry.portfolio for entry in desired.entries if entry.role in ("run", "drain")}
        for portfolio in self._owned.keys() - owned:
            del self._owned[portfolio]

    async def _prepare(self, entry: DesiredEntry) -> None:
        """Read the checkpoint, and report the handoff as prepared."""
        async with self._step_places:
            await self._checkpoint(entry.portfolio, entry.handoff)
        assert entry.handoff is not None
        self._outbox.add(Prepared(handoff=entry.handoff))
        self._beat_now.set()

    async def _activate(self, entry: DesiredEntry) -> None:
        """Read the checkpoint, and make the first commit of the entry's epoch, without events."""
        async with self._step_places:
            seq = await self._checkpoint(entry.portfolio, None)
            if seq is not None:
                await self._commit(entry.portfolio, entry.epoch, seq, seq)

    async def _release(self, entry: DesiredEntry) -> None:
        """Make the last commit of the entry's epoch, without events."""
        async with self._step_places:
            epoch, seq = self._owned.get(entry.portfolio, (0, 0))
            if epoch == entry.epoch:
                await self._commit(entry.portfolio, epoch, seq, seq, release=entry.handoff)

    async def _checkpoint(self, portfolio: int, handoff: int | None) -> int | None:
        """Return the last seq, or None if this node may no longer read the checkpoint."""
        message = CheckpointRequest(
            incarnation=self.incarnation, portfolio=portfolio, handoff=handoff
        )
        attempt = 0
        while True:
            try:
                return (await self._client.checkpoint(message)).last_seq
            except RequestRefused:
                return None
            except ServerUnavailable:
                await back_off(attempt, 0.1, 1.0)
                attempt += 1

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task that `kill` can cancel."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
