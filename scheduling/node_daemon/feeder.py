"""Feed one portfolio from the log and commit its results, one batch at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import NoReturn

from portfolios.runtime.events import decode_event, join_events, split_events
from portfolios.runtime.messages import Batch
from scheduling import tracing
from scheduling.node_daemon.child import Child
from scheduling.node_daemon.clock import boottime_s
from scheduling.node_daemon.commit_builder import CommitBuilder
from scheduling.node_daemon.context import DaemonContext
from scheduling.node_daemon.errors import (
    ChildFailed,
    CommitRejected,
    FeedLacksRecords,
    Fenced,
    LimitReached,
    RecordsMissing,
    ReleaseGranted,
    SequenceConflict,
    StaleEvent,
)
from scheduling.node_daemon.feed_reader import FeedReader, Listener
from scheduling.node_daemon.recorded_feed import RecordedFeedReader
from scheduling.wire.messages import MAX_LINES, Commit, CommitResult

COMMIT_EVENTS = 100  #: events of the log after which a commit is due
COMMIT_EVENTS_BEHIND = 2_000  #: the same while the portfolio catches up
BEHIND_EVENTS = 200  #: a portfolio with a larger lag catches up
COMMIT_INTERVAL_S = 0.25  #: all portfolios of a node commit at the same times, to share requests
LEASE_POLL_S = 0.25  #: while the lease does not allow feeding
UNREAD_POLL_S = 0.1  #: after records of the feed could not be read
MIN_BATCH_EVENTS = 10
MANY_LINES = MAX_LINES // 4  #: a batch with more shrinks the next; a commit has at most MAX_LINES
#: After a batch that took less than the first the next one grows, and after one that took more than
#: the second it shrinks, since a drain waits for the end of a batch.
QUICK_BATCH_S, SLOW_BATCH_S = 0.05, 0.25

RELEASE_SPAN = "stop and final commit"  #: the source's step of a handoff, in traces

_NO_EVENTS = join_events([])


@dataclass(frozen=True, slots=True)
class MemoryState:
    """The state in a process: it last changed at `state_seq`, and still holds at `last_seq`."""

    last_seq: int
    state_seq: int
    state_revision: int


@dataclass(frozen=True, slots=True)
class Tenure:
    """The portfolio, epoch and revision that the commits of a feeder name."""

    portfolio: int
    epoch: int
    revision: int


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """Where a feeder and its process stand when it starts."""

    memory: MemoryState  #: the feeder starts after `memory.last_seq`
    engine_seq: int  #: last handled by the process; events up to `last_seq` are of other symbols
    #: Where it failed before. Up to there the process gets one event at a time, so that all work
    #: before the bad event is kept.
    single_step_to: int = 0
    halted: str = ""  #: why a limit stopped the portfolio in this state; a later start lifts that


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What becomes of events that are too old to trade on."""

    policy: str  #: full, state_only or halt
    resume_seq: int = 0  #: an operator's start lifted `halt` up to here
    resumed_from: int = 0  #: where the portfolio stood at that start; negative: unknown


class Feeder:
    """The loop of one portfolio under one epoch.

    Ends by raising Fenced, SequenceConflict, CommitRejected, ReleaseGranted, StaleEvent,
    LimitReached or ChildFailed.
    """

    def __init__(
        self,
        context: DaemonContext,
        reader: FeedReader | RecordedFeedReader,
        child: Child,
        tenure: Tenure,
        start: StartingPoint,
        catch_up: CatchUp,
        *,
        symbols: frozenset[str] | None,
        on_keep: Callable[[], None],
    ) -> None:
        memory = start.memory
        self._context = context
        self._reader = reader
        self._child = child
        self._tenure = tenure
        self.catch_up_policy = catch_up.policy  #: may be changed while it runs
        self._resume_seq = catch_up.resume_seq
        # An operator's start lifts a halt by a limit if the portfolio halted no later than where it
        # stood at that start (`resumed_from`; if that is unknown, no later than the head of then).
        # A later halt, while it caught up, still holds, even if the process ended before the halt
        # was reported. The portfolio halted at `state_seq`; `last_seq` may be later, since it also
        # passes events of other symbols.
        resumed_from = catch_up.resumed_from
        lifted_to = catch_up.resume_seq if resumed_from < 0 else resumed_from
        self._halted = "" if memory.state_seq <= lifted_to else start.halted
        self._resuming = False  #: see `_is_resuming`
        self._single_step_to = start.single_step_to
        self._symbols = symbols
        self._wake = asyncio.Event()
        self._builder = CommitBuilder(memory.last_seq)
        self._batch_events = COMMIT_EVENTS
        self._due_at_s = 0.0  #: when the next commit is due, by the clock of the event loop
        self._release_for: int | None = None  #: the handoff to release for at the next batch's end
        self._drain_span: tracing.Span = tracing.NO_SPAN
        self._on_keep = on_keep  #: called when a release was answered `keep`: its handoff failed
        self._finish = False  #: `run` commits what is finished and returns
        #: None while the process has handled more than is committed
        self.memory: MemoryState | None = memory
        self.engine_seq = start.engine_seq
        self.seq, self.state_seq = memory.last_seq, memory.state_seq
        self._state_revision = memory.state_revision
        self.ending = False  #: the process has ended, and `_raise_end` handles that
        self.releasing = False  #: a release is in progress; its answer decides what comes next
        self.kept: int | None = None  #: the handoff whose release was answered `keep`
        self.events_seen = False  #: a batch with events has succeeded
        self.failed_in: tuple[int, int] | None = None  #: (from, to] of the batch that failed
        self.progressed_at_s = boottime_s()
        self._started_at_s = boottime_s()
        self.caught_up_ms: float | None = None  #: time to a lag of COMMIT_EVENTS or less

    @property
    def lag(self) -> int:
        """Return the number of events between the last commit and the head."""
        # The head as this node knows it may be behind the last commit.
        return max(self._reader.head() - self.seq, 0)

    @property
    def uncommitted(self) -> tuple[int, int] | None:
        """Return the range (from, to] of uncommitted work, or None."""
        builder = self._builder
        return (builder.from_seq, builder.to_seq) if builder.span else None

    def stalled_s(self) -> float:
        """Return the seconds without progress while events wait, or 0 if none wait."""
        if self.lag == 0:
            return 0.0
        waited = min(boottime_s() - self.progressed_at_s, self._reader.age_s(self.seq + 1))
        return max(waited, 0.0)

    # --- requests of the hosted portfolio ----------------------------------------------------

    def drain(self, handoff: int) -> None:
        """Release for `handoff` at the next batch boundary."""
        if handoff != self._release_for:  # the span begins here: it includes the running batch
            tenure = self._tenure
            self._drain_span = tracing.handoff_span(
                handoff, RELEASE_SPAN, portfolio_id=tenure.portfolio, epoch=tenure.epoch
            )
        self._release_for = handoff
        self._wake.set()

    def resume(self) -> None:
        """Cancel the release. If it is already in progress, its answer decides what comes next."""
        self._release_for = None
        self._wake.set()

    def finish(self) -> None:
        """Ask `run` to commit what is finished and then to return; do not wait for it."""
        self._finish = True
        self._wake.set()

    # --- the loop ----------------------------------------------------------------------------

    async def first_commit(self) -> None:
        """Begin the epoch by a commit without events; loading may have made or adapted a state."""
        self.memory = None
        result = await self._child.run(
            Batch(self.engine_seq, self._builder.to_seq, suppress=False, events=_NO_EVENTS),
            self._context.config.batch_limit_s,
        )
        self.engine_seq = self._builder.to_seq
        self._builder.add(result)
        await self._flush()

    async def run(self) -> None:
        """Feed and commit until `finish` is called or an error is raised."""
        listener = Listener(self._symbols, self._wake.set)
        self._reader.listen(listener)
        try:
            while True:
                self._wake.clear()
                if self._release_for is not None:
                    await self._release(self._release_for)
                elif self._finish:
                    return await self._flush_if_any()
                elif self._halted:
                    await self._flush_if_any()
                    raise LimitReached(self._halted)
                elif not self._context.lease.may_feed(boottime_s()):
                    await self._flush_if_any()
                    await self._wait(LEASE_POLL_S)
                elif self._child.has_ended:
                    await self._raise_end()
                else:
                    await self._advance()
        finally:
            self._reader.leave(listener)

    async def _raise_end(self) -> NoReturn:
        """Raise the failure of a process that ended outside a batch, while a commit was answered.

        Uncommitted work is committed before, if the process returned the state after it. Otherwise
        that work counts as failed, and is done again.
        """
        self.ending = True  # else `_watch_child`, which sees the same end, cancels the commit
        if self._builder.lacks_state:
            self.failed_in = self.uncommitted
        failure = await self._child.failure_of_end()
        if not self._builder.lacks_state:
            await self._flush_if_any()
        raise failure

    async def _advance(self) -> None:
        """Run the next batch; then commit if that is due, or wait if there was none."""
        advanced = await self._run_next_batch()
        if self._is_due():
            await self._flush(patient=not self._builder.urgent)
        elif not advanced:
            await self._wait(self._until_due_s())

    async def _run_next_batch(self) -> bool:
        """Run the next batch. Return False at the head, or if the server does not answer."""
        segment_start_us = self._reader.segment_start_us
        cursor = self._builder.to_seq
        if self._builder.span and (
            self._builder.feed_us != segment_start_us
            or self._builder.record != self._reader.record_hash(cursor)
        ):
            # The feed changed since these events were read. Commit them alone, with the segment and
            # the record hash that they were read with: one commit can name only one of each.
            await self._flush()
            return True
        self._builder.feed_us = segment_start_us
        if not await self._load(cursor):
            await self._wait(UNREAD_POLL_S)
            return False
        # The last seq to read up to, and whether orders on these events are suppressed.
        limit, suppress = self._reader.head(), False
        if self.catch_up_policy != "full":
            age_us = int(self._context.stale_order_age_s * 1e6)
            stale = self._reader.stale_head(cursor, age_us)
            if cursor >= stale:
                self._resuming = False
            elif self.catch_up_policy == "halt" and not self._is_resuming(cursor):
                await self._skip_or_halt(stale)
                return True
            else:
                limit, suppress = stale, True
        if limit <= cursor:
            return False
        max_events = 1 if cursor < self._single_step_to else self._batch_events
        events, to_seq = self._reader.batch(
            cursor, self._symbols, limit, max_events, COMMIT_EVENTS_BEHIND
        )
        record = self._reader.record_hash(to_seq)
        if events == _NO_EVENTS:
            self._builder.skip(to_seq, record)
            return True
        if self._builder.suppress not in (None, suppress):
            await self._flush()  # a commit is suppressed as a whole or not at all
            self._builder.feed_us = segment_start_us
        self._builder.suppress = suppress
        want_state = cursor < self._single_step_to or self._is_due(to_seq)
        batch = Batch(self.engine_seq, to_seq, suppress, events, want_state)
        await self._run_batch(batch, record)
        return True

    async def _load(self, cursor: int) -> bool:
        """Load the events after `cursor`. Return False if the server does not answer now.

        Raise FeedLacksRecords if the feed dropped or lost one of them.
        """
        try:
            return await self._reader.load(cursor)
        except RecordsMissing as missing:
            raise FeedLacksRecords("exit", str(missing)) from None

    def _is_resuming(self, cursor: int) -> bool:
        """Return whether an operator's start has lifted the policy `halt` at `cursor`.

        A start lifts it up to the head of that moment (`_resume_seq`), and then until no event is
        stale; otherwise events released while the portfolio catches up would halt it again.
        """
        self._resuming = self._resuming or cursor < self._resume_seq
        return self._resuming

    async def _run_batch(self, batch: Batch, record_hash: bytes) -> None:
        """Run a batch, add its results, and adapt the size of the next one.

        `record_hash` is that of the batch's last seq, or b"".
        """
        self.memory = None
        began_s = boottime_s()
        try:
            result = await self._child.run(batch, self._context.config.batch_limit_s)
        except ChildFailed as failure:
            self.failed_in = (batch.from_seq, batch.to_seq)
            if failure.seq is not None and batch.from_seq < failure.seq <= batch.to_seq:
                self.failed_in = (failure.seq - 1, failure.seq)
            if not self._builder.lacks_state:
                await self._flush_if_any()  # the work before this batch is valid
            raise  # work without its state is done again, one event at a time up to the failed one
        took_s = boottime_s() - began_s
        self.engine_seq = result.to_seq  # lower than that of the batch if a limit halts it there
        self._halted = result.halt
        self.events_seen = True
        if record_hash and result.to_seq < batch.to_seq:
            record_hash = _record_hash(batch.events, result.to_seq)
        self._builder.add(result, record_hash, asked_for_state=batch.want_state)
        lines = len(result.orders) + len(result.fills) + len(result.ended) + len(result.equity)
        if took_s > SLOW_BATCH_S or lines > MANY_LINES:
            self._batch_events = max(self._batch_events // 4, MIN_BATCH_EVENTS)
        elif took_s < QUICK_BATCH_S:
            self._batch_events = min(self._batch_events * 2, COMMIT_EVENTS_BEHIND)

    async def _skip_or_halt(self, stale_head: int) -> None:
        """Skip events of other symbols up to `stale_head`: all of these are too old to trade on.

        Raise StaleEvent at an event of the portfolio's symbols.
        """
        events, to_seq = self._reader.batch(
            self._builder.to_seq, self._symbols, stale_head, 1, COMMIT_EVENTS_BEHIND
        )
        if events == _NO_EVENTS:
            self._builder.skip(to_seq, self._reader.record_hash(to_seq))
            return
        if to_seq - 1 > self._builder.to_seq:
            self._builder.skip(to_seq - 1, self._reader.record_hash(to_seq - 1))
        await self._flush_if_any()
        raise StaleEvent(self._reader.age_s(to_seq))

    async def _wait(self, limit_s: float) -> None:
        """Wait for an event of the portfolio's symbols or a request, for at most `limit_s`."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(limit_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    # --- commits -----------------------------------------------------------------------------

    def _is_due(self, to_seq: int | None = None) -> bool:
        """Return whether a commit is due now, or will be after a batch up to `to_seq`."""
        builder = self._builder
        span = builder.span if to_seq is None else to_seq - builder.from_seq
        if span == 0:
            return False
        if builder.urgent or asyncio.get_running_loop().time() >= self._due_at_s:
            return True
        catching_up = self._reader.head() - builder.from_seq > BEHIND_EVENTS
        return span >= (COMMIT_EVENTS_BEHIND if catching_up else COMMIT_EVENTS)

    def _until_due_s(self) -> float:
        """Return the seconds until the next commit is due. If its time has passed with nothing to
        commit, take the next one."""
        now = asyncio.get_running_loop().time()
        if now >= self._due_at_s:
            self._due_at_s = _next_commit_time_s(now)
        return self._due_at_s - now

    async def _flush_if_any(self) -> None:
        if self._builder.span:
            await self._flush()

    async def _flush(self, *, patient: bool = False) -> None:
        """Commit the work so far (`patient`: see `Committer.commit`). Raise why it is refused."""
        await self._complete_state()
        commit = self._builder.build(self._tenure.portfolio, self._tenure.epoch)
        result = await self._context.committer.commit(commit, patient=patient)
        if result.answer != "ok":
            raise _refusal(result)
        self._note_committed(commit)

    async def _complete_state(self) -> None:
        """Ask the process for its state, if it has handled events since it returned one."""
        builder = self._builder
        if not builder.lacks_state:
            return
        try:
            result = await self._child.run(
                Batch(self.engine_seq, builder.to_seq, suppress=False, events=_NO_EVENTS),
                self._context.config.batch_limit_s,
            )
        except ChildFailed:
            self.failed_in = (builder.from_seq, builder.to_seq)
            raise
        self.engine_seq = builder.to_seq
        builder.add(result)

    async def _release(self, handoff: int) -> None:
        """Commit the work so far as the last commit of this epoch. Raise ReleaseGranted if it is
        accepted; return if the answer is `keep`, since the handoff has failed; else raise why."""
        with self._drain_span as span:
            await self._complete_state()
            commit = self._builder.build(
                self._tenure.portfolio, self._tenure.epoch, release=handoff
            )
            self.releasing = True
            try:
                result = await self._context.committer.commit(commit)
            finally:
                self.releasing = False
            note_release(span, result)
        if result.answer in ("ok", "handed_over"):
            self._note_committed(commit)
            raise ReleaseGranted(f"released at seq {commit.to_seq} for handoff {handoff}")
        if result.answer != "keep":
            raise _refusal(result)
        self._note_committed(commit)
        self.kept = handoff
        if self._release_for == handoff:
            self._release_for = None
        self._on_keep()

    def _note_committed(self, commit: Commit) -> None:
        """Advance to the end of a commit that was accepted, and start collecting the next."""
        now = boottime_s()
        if commit.to_seq > commit.from_seq:
            self.progressed_at_s = now
        if commit.state is not None:
            self.state_seq, self._state_revision = commit.to_seq, self._tenure.revision
        self.seq = commit.to_seq
        self.memory = MemoryState(self.seq, self.state_seq, self._state_revision)
        self._builder = CommitBuilder(self.seq)
        self._due_at_s = _next_commit_time_s(asyncio.get_running_loop().time())
        if self.caught_up_ms is None and self.lag <= COMMIT_EVENTS:
            self.caught_up_ms = (now - self._started_at_s) * 1e3
            self._context.beat_soon()


def note_release(span: tracing.Span, result: CommitResult) -> None:
    """Record the answer to a release in its trace span."""
    released = result.answer in ("ok", "handed_over")
    error = "" if released else result.detail or result.answer
    span.note(error, outcome=result.answer)


def _next_commit_time_s(now_s: float) -> float:
    """Return the next multiple of COMMIT_INTERVAL_S, at which all portfolios of a node commit."""
    return (now_s // COMMIT_INTERVAL_S + 1) * COMMIT_INTERVAL_S


def _record_hash(events: bytes, seq: int) -> bytes:
    """Return the hash of the record `seq`, one of the encoded `events` of a batch."""
    return next(
        sha256(encoded).digest()
        for encoded in split_events(events)
        if decode_event(encoded).seq == seq
    )


def _refusal(result: CommitResult) -> Exception:
    """Return the error for an answer other than `ok` to a commit."""
    message = f"{result.answer}: {result.detail}" if result.detail else result.answer
    if result.answer == "fenced":
        return Fenced(message)
    if result.answer in ("conflict", "ahead"):
        return SequenceConflict(message)
    if result.answer == "handed_over":
        return ReleaseGranted(message)
    return CommitRejected(message)
