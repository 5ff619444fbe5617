"""Send commits to the server until each has a definite answer.

Waiting commits go into the next request, at most one per portfolio. A request without a definite
answer is repeated byte for byte. If an answer leaves a portfolio out, its row is locked in the
database: its commit goes unchanged into a later request, and the other portfolios go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from scheduling.node_daemon.acknowledged import Acknowledgements
from scheduling.node_daemon.control_plane_client import ControlPlaneClient, back_off
from scheduling.node_daemon.errors import RegistrationRefused, RequestRefused, ServerUnavailable
from scheduling.node_daemon.logs import LOG
from scheduling.wire.messages import (
    MAX_COMMITS,
    MAX_LINES,
    Commit,
    CommitRequest,
    CommitResult,
    encode,
)

GATHER_S = 0.003  #: how long a patient commit waits for others to share its request
MAX_REQUESTS = 2  #: concurrent requests; more would only queue in the server's pool
MAX_REQUEST_BYTES = 4_000_000  #: approximate; a single commit may be larger
BYTES_PER_LINE = 150  #: approximate
ACCEPTED = frozenset({"ok", "handed_over", "keep"})  #: answers to commits that were written
FIRST_BACK_OFF_S, MAX_BACK_OFF_S = 0.1, 1.0
FIRST_LOCKED_S, MAX_LOCKED_S = 0.02, 0.25  #: delay before a commit whose row was locked is repeated


@dataclass(slots=True)
class _Waiting:
    """One commit and the future of its answer."""

    commit: Commit
    answer: asyncio.Future[CommitResult]
    left_out: int = 0  #: how many answers left its portfolio out


class Committer:
    """Sends the commits of one daemon. `commit` may be called for many portfolios at once."""

    def __init__(self, client: ControlPlaneClient, incarnation: str) -> None:
        self._client = client
        self._incarnation = incarnation
        self.acknowledged = Acknowledgements()
        self._queue: list[_Waiting] = []
        self._retry_timers: set[asyncio.TimerHandle] = set()
        self._urgent = asyncio.Event()
        self._senders: set[asyncio.Task[None]] = set()
        self.on_version: Callable[[int], None] = lambda version: None
        """Called with the version of the desired set that an answer names."""
        self.token_refused: asyncio.Future[RegistrationRefused] = (
            asyncio.get_running_loop().create_future()
        )
        """Set when the server refuses the token."""

    async def commit(self, commit: Commit, *, patient: bool = False) -> CommitResult:
        """Return the definite answer to `commit`, however long it takes.

        A patient commit waits briefly for those of other portfolios that are due at the same time.
        """
        answer: asyncio.Future[CommitResult] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(commit, answer))
        if not patient:
            self._urgent.set()
        self._ensure_sender()
        return await answer

    def _ensure_sender(self) -> None:
        """Start a task that sends the queue, unless MAX_REQUESTS of them run."""
        if len(self._senders) < MAX_REQUESTS:
            sender = asyncio.create_task(self._send_queued(), name="committer")
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)

    async def _send_queued(self) -> None:
        """Send queued commits, one request after the other, until the queue is empty."""
        try:
            while self._queue:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_S):
                        await self._urgent.wait()
                self._urgent.clear()
                batch = self._take_batch()
                if not batch:  # the other sender took all of them
                    return
                results = await self._send([waiting.commit for waiting in batch])
                for waiting in batch:
                    result = results.get(waiting.commit.portfolio)
                    if result is not None and result.answer in ACCEPTED:
                        self.acknowledged.record(waiting.commit)
                    if result is None:
                        self._repeat_later(waiting)
                    elif not waiting.answer.done():
                        waiting.answer.set_result(result)
        finally:
            # No await since the queue was seen empty: a `commit` meanwhile would start no sender.
            self._senders.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _repeat_later(self, waiting: _Waiting) -> None:
        """Put a commit that was left out back into the queue after a delay."""
        portfolio = waiting.commit.portfolio
        # Logged at the 1st, the 21st and each 200th repeat.
        if waiting.left_out in (0, 20) or waiting.left_out % 200 == 199:
            LOG.info(
                "the row of portfolio %d is locked: its commit is repeated (%d)",
                portfolio,
                waiting.left_out + 1,
            )
        delay_s = min(FIRST_LOCKED_S * 2 ** min(waiting.left_out, 16), MAX_LOCKED_S)
        waiting.left_out += 1

        def requeue() -> None:
            self._retry_timers.discard(timer)
            self._queue.append(waiting)
            self._urgent.set()
            self._ensure_sender()

        timer = asyncio.get_running_loop().call_later(delay_s, requeue)
        self._retry_timers.add(timer)

    def _take_batch(self) -> list[_Waiting]:
        """Take a batch out of the queue, at most one commit per portfolio."""
        batch: list[_Waiting] = []
        remaining: list[_Waiting] = []
        seen: set[int] = set()
        lines = size = 0
        full = False
        for waiting in self._queue:
            commit = waiting.commit
            full = full or len(batch) == MAX_COMMITS
            if not full and commit.portfolio not in seen:
                line_count = len(commit.orders) + len(commit.fills) + len(commit.equity)
                line_count += len(commit.ended) + len(commit.metrics)
                byte_count = len(commit.state or b"") + line_count * BYTES_PER_LINE
                # A commit that would make the request too large waits, with all behind it.
                full = bool(batch) and (
                    lines + line_count > MAX_LINES or size + byte_count > MAX_REQUEST_BYTES
                )
            if full or commit.portfolio in seen:
                remaining.append(waiting)
                continue
            seen.add(commit.portfolio)
            batch.append(waiting)
            lines, size = lines + line_count, size + byte_count
        self._queue = remaining
        return batch

    async def _send(self, commits: list[Commit]) -> dict[int, CommitResult]:
        """Return portfolio → result once the server answers; one with a locked row is left out."""
        body = encode(CommitRequest(incarnation=self._incarnation, commits=commits))
        attempt = 0
        while True:
            try:
                answers = await self._client.commit(body)
                self.on_version(max((result.version for result in answers.results), default=0))
                return {result.portfolio: result for result in answers.results}
            except ServerUnavailable as error:
                if attempt == 4 or attempt % 30 == 0:  # log a few of many attempts
                    LOG.warning("commits are repeated (attempt %d): %s", attempt + 1, error)
            except RegistrationRefused as error:  # `main` waits for it, and ends the daemon
                if not self.token_refused.done():
                    self.token_refused.set_result(error)
            except RequestRefused as error:
                return await self._send_one_by_one(commits, error)
            await back_off(attempt, FIRST_BACK_OFF_S, MAX_BACK_OFF_S)
            attempt += 1

    async def _send_one_by_one(
        self, commits: list[Commit], error: RequestRefused
    ) -> dict[int, CommitResult]:
        """Find out which commits of a refused request are at fault: send each in a request alone.
        One that was alone already is rejected with `error`. Return portfolio → result."""
        if len(commits) == 1:
            portfolio, detail = commits[0].portfolio, f"{error.code}: {error}"
            return {portfolio: CommitResult(portfolio=portfolio, answer="rejected", detail=detail)}
        results: dict[int, CommitResult] = {}
        for commit in commits:
            results.update(await self._send([commit]))
        return results

    async def close(self) -> None:
        """Cancel all requests and repeats. A caller that waits in `commit` gets no answer."""
        for timer in self._retry_timers:
            timer.cancel()
        for sender in list(self._senders):
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
