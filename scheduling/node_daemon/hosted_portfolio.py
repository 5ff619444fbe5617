"""One portfolio on this node: its process, its phase, and its task."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any

import msgspec

from portfolios.feeds.history import WARM_UP_SPAN
from portfolios.runtime.events import encode_events
from portfolios.runtime.messages import Load
from portfolios.runtime.spec import Spec
from scheduling import tracing
from scheduling.decide.reconcile import Process
from scheduling.node_daemon.checkpoints import checkpoint, granted_checkpoint
from scheduling.node_daemon.child import Child, start_child
from scheduling.node_daemon.clock import boottime_s
from scheduling.node_daemon.commit_builder import CommitBuilder
from scheduling.node_daemon.context import DaemonContext
from scheduling.node_daemon.errors import (
    ChildFailed,
    CommitRejected,
    FeedLacksRecords,
    Fenced,
    ForkserverDied,
    LimitReached,
    RecordsMissing,
    ReleaseGranted,
    RequestRefused,
    SequenceConflict,
    StaleEvent,
)
from scheduling.node_daemon.feed_reader import FeedReader
from scheduling.node_daemon.feeder import (
    RELEASE_SPAN,
    CatchUp,
    Feeder,
    MemoryState,
    StartingPoint,
    Tenure,
    note_release,
)
from scheduling.node_daemon.log_sender import PrintingProcess
from scheduling.node_daemon.logs import LOG
from scheduling.node_daemon.recorded_feed import RecordedFeedReader
from scheduling.wire.messages import (
    CheckpointAnswer,
    DesiredEntry,
    Halted,
    Prepared,
    ProcessExited,
    StepFailed,
)

POLL_S = 0.01  #: until the request of a process that has ended has failed
CONFLICT_PAUSE_S = 0.05  #: between a refused commit and the next start from the checkpoint
FORKSERVER_RELAUNCH_S = 0.25  #: until another forkserver can fork processes


class HostedPortfolio:
    """A slot of the daemon, for one portfolio. `decide.reconcile.Process` draws its phases.

    Every method that starts something changes the phase before it returns, so that the next
    reconcile sees it, and leaves the waiting to a task.
    """

    def __init__(
        self,
        context: DaemonContext,
        slot: int,
        entry: DesiredEntry,
        replaces: HostedPortfolio | None = None,
    ) -> None:
        """Start with no process. Failures of the slot that this one replaces still count."""
        self._context = context
        self.slot = slot
        self.entry = entry
        self.portfolio, self.epoch, self.revision = entry.portfolio, 0, entry.revision
        self.phase = "preparing"
        self.handoff: int | None = entry.handoff
        self.failures: int = replaces.failures if replaces else 0
        #: Feed one event at a time up to this seq, where the process failed.
        self._single_step_to: int = replaces._single_step_to if replaces else 0
        self._activated: bool = False  #: the first commit under the present epoch was made
        if replaces is not None and replaces.epoch == entry.epoch:
            self._activated = replaces._activated
        self.child: Child | None = None
        self.feeder: Feeder | None = None
        self._state_in_process: MemoryState | None = None  #: used only without a feeder
        self._engine_seq = 0  #: the last event that the process has handled
        self._symbols: frozenset[str] | None = None  #: whose events the process needs; None: all
        self._halted = ""  #: the limit that halted the portfolio, says its checkpoint; "": none
        self._task: asyncio.Task[None] | None = None
        self._watch_task: asyncio.Task[None] | None = None
        self._ended = False  #: `end` was called
        self._ended_at_s = 0.0  #: when the process ended: the start of its back-off
        self._reported = True  #: the server knows of the last failure
        #: The handoff for which a release, sent without a process, was answered `keep`.
        self._kept_handoff: int | None = None

    def __str__(self) -> str:
        return f"{self.entry.name} (epoch {self.epoch}, revision {self.revision})"

    def process(self) -> Process:
        """Return this slot, with its portfolio, epoch and phase, as `decide.reconcile` sees it."""
        return Process(
            slot=self.slot,
            portfolio=self.portfolio,
            epoch=self.epoch,
            revision=self.revision,
            phase=self.phase,
            handoff=self.handoff,
            kept_for=self.feeder.kept if self.feeder else self._kept_handoff,
            ended_at=self._ended_at_s,
            reported=self._reported,
            failures=self.failures,
        )

    # --- output of its process ---------------------------------------------------------------

    def take_line(self, text: str) -> None:
        """Keep a line that the process printed, for the log of the portfolio."""
        self._context.log.add(PrintingProcess(self.portfolio, self.epoch, self.handoff), text)

    def count_lost(self, lines: int) -> None:
        """Count lines of the process that were dropped, since it printed too fast."""
        self._context.log.lose(PrintingProcess(self.portfolio, self.epoch, self.handoff), lines)

    # --- actions of reconcile ----------------------------------------------------------------

    def prepare(self) -> None:
        """Start a process and load the newest checkpoint on trial; commit nothing."""
        self._start_task("preparing", self._prepare())

    def take_over(self, entry: DesiredEntry) -> None:
        """Begin to own the entry's epoch, with the slot's process, or a new one if it has none."""
        before = self.feeder
        if before is not None:
            self._state_in_process, self._engine_seq = before.memory, before.engine_seq
        if entry.epoch != self.epoch:
            self._activated = False
        self.entry, self.epoch, self.revision = entry, entry.epoch, entry.revision
        self.handoff, self.feeder = entry.handoff, None
        self._start_task("starting", self._run_owned())

    def drain(self, handoff: int | None) -> None:
        """Release for `handoff` at the next batch boundary, or once the process has started."""
        self.phase, self.handoff = "draining", handoff
        if self.feeder is not None and handoff is not None:
            self.feeder.drain(handoff)

    def release_absent(self, entry: DesiredEntry) -> None:
        """Release the epoch of the entry. The portfolio has no process on this node."""
        self.entry, self.epoch = entry, entry.epoch
        self._start_task("draining", self._release_absent())

    def apply_entry(self, entry: DesiredEntry) -> None:
        """Apply `catch_up` of the entry, which may change within an epoch without a new process."""
        if self.feeder is not None and self.entry.epoch == entry.epoch:
            self.feeder.catch_up_policy = entry.catch_up

    def resume(self) -> None:
        """Cancel a drain and continue. If its release was sent already, the answer decides."""
        self.handoff = None
        if self.feeder is not None:
            self.feeder.resume()
            if not self.feeder.releasing:
                self.phase = "running"

    def freeze(self) -> None:
        """Stop feeding and keep the process."""
        self._cancel()
        self._become_warm()

    async def finish(self) -> None:
        """Stop feeding and commit the finished work. Return once the commit has ended."""
        if self.feeder is not None and self._task is not None:
            self.feeder.finish()
            await asyncio.wait([self._task])

    def end(self) -> None:
        """Kill the process and cancel the task."""
        self._ended = True
        self._cancel()
        self._kill_child()

    # --- tasks -------------------------------------------------------------------------------

    def _start_task(self, phase: str, work: Coroutine[Any, Any, None]) -> None:
        """Cancel the present task of the slot, and begin `work` in `phase`."""
        self._cancel()
        self.phase = phase
        self._reported, self._ended_at_s = True, 0.0
        self._task = asyncio.create_task(self._run_task(work), name=f"{self.entry.name} {phase}")

    async def _run_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Await the work, and set the phase that follows from how it ended."""
        try:
            await work
        except ChildFailed as failure:
            self._handle_failure(failure)
        except ReleaseGranted as release:
            LOG.info("%s: %s", self, release)
            self._become_warm()
            self._context.on_change()
        except (Fenced, RequestRefused) as error:
            LOG.info("%s ends: %s", self, error)
            self._end_quietly()
        except CommitRejected as error:
            if self.feeder is not None and self.feeder.uncommitted is not None:
                self.feeder.failed_in = self.feeder.uncommitted
            # The stage is `event`, since results of the strategy are the cause.
            self._handle_failure(ChildFailed("event", f"its commit was refused: {error}"))
        except StaleEvent as stale:
            self._halt(str(stale), age_s=stale.age_s)
        except LimitReached as limit:
            self._halt(str(limit), limit=str(limit))
        except Exception as error:  # the run must show a cause
            LOG.exception("%s: internal error of the daemon, a defect to report", self)
            self._handle_failure(ChildFailed("exit", f"a daemon defect to report: {error!r}"))

    async def _prepare(self) -> None:
        """Start a process, load it on trial, and report that it is prepared. Raise ChildFailed."""
        with self._handoff_span("prepare"):
            try:
                _, found = await asyncio.gather(
                    self._ensure_child(), checkpoint(self._context, self.portfolio, self.handoff)
                )
                await self._load(found, trial=True)
            except RequestRefused as declined:
                what = "its checkpoint or history was refused"
                raise ChildFailed("exit", f"{what}: {declined}") from None
        self.phase = "prepared"
        if self.handoff is not None:
            self._context.outbox.add(Prepared(handoff=self.handoff))
        self._context.on_change()

    async def _run_owned(self) -> None:
        """Own the epoch until an error or a shutdown; after a SequenceConflict, begin again."""
        while True:
            try:
                await self._run_owned_once()
                return
            except SequenceConflict as reason:
                LOG.info("%s returns to the checkpoint: %s", self, reason)
                self._state_in_process, self.feeder = None, None
                if (reader := self._context.feeds.get(self.entry.feed)) is not None:
                    reader.read_again()  # a changed record may be the cause
                self._context.beat_soon()  # the answer says what this node should run now
                await asyncio.sleep(CONFLICT_PAUSE_S)

    async def _run_owned_once(self) -> None:
        """Start from the checkpoint, begin the epoch, and feed until an error or a shutdown."""
        with self._handoff_span("activate"):
            child, found = await asyncio.gather(
                self._ensure_child(), granted_checkpoint(self._context, self.portfolio, self.epoch)
            )
            if not self._is_loaded(found):
                await self._load(found, trial=False)
            feeder = self._make_feeder(child, found)
        with self._handoff_span("first commit"):
            await feeder.first_commit()
        self._activated = True
        if self.phase == "draining" and self.handoff is not None:
            feeder.drain(self.handoff)
        else:
            self.phase = "running"
        self._context.on_change()
        await feeder.run()

    def _feed_reader(self) -> FeedReader | RecordedFeedReader:
        """Return the reader of its feed. Raise ChildFailed if the node lacks this packaged feed."""
        if reader := self._context.feeds.get(self.entry.feed):
            return reader
        raise ChildFailed(
            "exit",
            f"this node cannot read the feed {self.entry.feed}: install on it the server's version "
            "of Ginkgo",
        )

    def _make_feeder(self, child: Child, found: CheckpointAnswer) -> Feeder:
        self.feeder = Feeder(
            self._context,
            self._feed_reader(),
            child,
            Tenure(self.portfolio, self.epoch, self.revision),
            StartingPoint(
                MemoryState(found.last_seq, found.state_seq, found.state_revision),
                self._engine_seq,
                single_step_to=max(self._single_step_to, self.entry.failed_seq),
                halted=self._halted,
            ),
            CatchUp(self.entry.catch_up, self.entry.resume_seq, self.entry.resumed_from),
            symbols=self._symbols,
            on_keep=self._on_release_kept,
        )
        return self.feeder

    async def _release_absent(self) -> None:
        """Commit the release without a process, and apply the answer."""
        found = await granted_checkpoint(self._context, self.portfolio, self.epoch)
        commit = CommitBuilder(found.last_seq).build(self.portfolio, self.epoch, self.handoff)
        with tracing.handoff_span(
            self.handoff, RELEASE_SPAN, portfolio=self.entry.name, epoch=self.epoch
        ) as span:
            result = await self._context.committer.commit(commit)
            note_release(span, result)
        if result.answer in ("ok", "handed_over"):
            raise ReleaseGranted("released without a process")
        if result.answer == "keep":  # exited and still owned: start it again
            self.phase, self._ended_at_s, self._kept_handoff = "waiting", boottime_s(), self.handoff
            self._context.on_change()
            return
        raise Fenced(f"its release was answered {result.answer}: {result.detail}")

    # --- pieces ------------------------------------------------------------------------------

    def _handoff_span(self, step: str) -> tracing.Span:
        """Return the trace span of a handoff step, or NO_SPAN after the handoff's first commit."""
        return tracing.handoff_span(
            None if self._activated else self.handoff,
            step,
            portfolio=self.entry.name,
            epoch=self.entry.epoch,
            revision=self.revision,
        )

    async def _ensure_child(self) -> Child:
        """Return the process; start it if there is none. Raise ChildFailed if it does not start."""
        if self.child is None:
            forkserver, artifact = await self._context.code.obtain(self._spec())
            child = await start_child(forkserver, self.entry.name, self, artifact)
            if self._ended:
                child.kill()
                raise ChildFailed("exit", "the node stopped it while its process started")
            self.child, self._state_in_process = child, None
            self._watch_task = asyncio.create_task(self._watch_child(child))
        return self.child

    async def _watch_child(self, child: Child) -> None:
        """Handle a process that exits while no request waits for its reply."""
        failure = await child.wait_for_end()
        while child.busy:  # the waiting request handles the exit
            await asyncio.sleep(POLL_S)
        if self.child is not child:
            return
        feeder = self.feeder
        if feeder and (feeder.releasing or feeder.ending or feeder.failed_in is not None):
            return  # the task that awaits the answer, or handles the failed batch, handles the exit
        if self.phase == "warm":
            self._become_warm()
        elif self.phase in ("prepared", "running", "draining", "halted"):
            self._cancel()
            self._handle_failure(failure)

    def _is_loaded(self, found: CheckpointAnswer) -> bool:
        """Return whether the process already has the state of this checkpoint in memory.

        A state that was loaded on trial is the same while no commit has changed it since, even if
        the portfolio has meanwhile committed events of other symbols.
        """
        held = self._state_in_process
        if held is None or found.state is None:
            return False
        is_same = (held.state_seq, held.state_revision) == (found.state_seq, found.state_revision)
        return is_same and self._engine_seq <= found.last_seq

    async def _load(self, found: CheckpointAnswer, *, trial: bool) -> None:
        """Load a checkpoint, with the history that the strategy asks for. Raise ChildFailed."""
        assert self.child is not None
        self._state_in_process = None
        spec = self._spec()
        request = Load(spec, found.state, found.last_seq, trial)
        loaded = await self.child.load(request, self._context.config.load_limit_s)
        if loaded.needs_history:
            reader = self._feed_reader()
            try:
                history = await reader.history(
                    spec.symbol_set(), loaded.last_seq, loaded.needs_history
                )
            except RecordsMissing as missing:
                raise ChildFailed("exit", str(missing)) from None
            if len(history) < loaded.needs_history:
                self.take_line(
                    f"(Ginkgo) The warm-up has {len(history):,} of {loaded.needs_history:,} events:"
                    f" feed {self.entry.feed} has no more of these symbols before seq"
                    f" {loaded.last_seq + 1}, or not among its newest {WARM_UP_SPAN:,} records."
                )
            request = msgspec.structs.replace(request, history=encode_events(history))
            loaded = await self.child.load(request, self._context.config.load_limit_s)
            LOG.info("%s is warmed up with %s events", self, len(history))
        self._engine_seq, self._symbols = loaded.last_seq, loaded.symbols(spec)
        self._halted = loaded.halted
        self._state_in_process = MemoryState(found.last_seq, found.state_seq, found.state_revision)

    def _spec(self) -> Spec:
        try:
            return msgspec.convert(self.entry.spec, Spec)
        except msgspec.ValidationError as error:
            raise ChildFailed(
                "load",
                f"this version of the daemon cannot read the portfolio's specification: {error}",
            ) from None

    def _on_release_kept(self) -> None:
        """Continue after a release that was answered `keep`: the handoff has failed."""
        assert self.feeder is not None
        LOG.info("%s continues: handoff %s has failed", self, self.feeder.kept)
        if self.handoff == self.feeder.kept:
            self.phase, self.handoff = "running", None
        self._context.on_change()

    # --- ends --------------------------------------------------------------------------------

    def _become_warm(self) -> None:
        """Go to phase `warm`: keep the process without feeding it; drop one that has ended."""
        self.phase = "warm"
        if self.child is not None and self.child.has_ended:
            self._kill_child()

    def _handle_failure(self, failure: ChildFailed) -> None:
        """Kill the process, report its failure, and set the phase from which it starts again."""
        LOG.warning("%s failed while %s: %s", self, self.phase, failure)
        feeder, phase = self.feeder, self.phase
        self._kill_child()
        was_idle = isinstance(failure, ForkserverDied) and not failure.process_was_busy
        if was_idle and self._activated:
            self._ended_at_s, self.phase = boottime_s() + FORKSERVER_RELAUNCH_S, "waiting"
            self._context.on_change()
            return  # without a report: the process was idle, so another one is the cause
        self._ended_at_s, self.phase = boottime_s(), "waiting"
        # An event that was handled begins the count anew.
        self.failures = 1 if feeder is not None and feeder.events_seen else self.failures + 1
        if phase in ("preparing", "prepared"):
            self.phase = "ended"  # a failed prepare is not repeated
        self._reported = False
        report = self._report(failure, self.phase == "ended")
        self._context.outbox.add(report, self._on_report_delivered)
        self._context.on_change()

    def _report(self, failure: ChildFailed, preparing: bool) -> StepFailed | ProcessExited:
        """Return the report of a failure: of a handoff step, or of the run."""
        if self.handoff is not None and (preparing or not self._activated):
            return StepFailed(
                handoff=self.handoff,
                step="prepare" if preparing else "activate",
                error=str(failure),
                strategy_failed=failure.strategy_failed,
            )
        feeder = self.feeder
        failed_in = feeder.failed_in if feeder else None
        _, failed_seq = failed_in or (0, 0)
        if failed_seq:
            self._single_step_to = failed_seq
        return ProcessExited(
            death=str(uuid.uuid4()),
            portfolio=self.portfolio,
            epoch=self.epoch,
            revision=self.revision,
            seq=feeder.seq if feeder else 0,
            stage=failure.stage,
            error=failure.sentence(failed_in),
            before_first_event=feeder is None or not feeder.events_seen,
            failed_seq=failed_seq,
            idle=self._was_idle(failure),
        )

    def _was_idle(self, failure: ChildFailed) -> bool:
        """Return whether the process exited while idle, so that no event has failed."""
        if isinstance(failure, FeedLacksRecords):
            return False  # counts as an attempt: starting again does not bring the records back
        feeder = self.feeder
        at_work = feeder is None or feeder.failed_in is not None or not self._activated
        return failure.stage == "exit" and not at_work

    def _on_report_delivered(self) -> None:
        """Note that the server knows of the exit: `decide.reconcile` starts no process before."""
        self._reported = True

    def _halt(self, why: str, *, age_s: float = 0.0, limit: str = "") -> None:
        """Keep the process without feeding it, and report the halt. `why` is for the daemon's log.

        `limit`: the sentence of the limit that was reached; "": the next event is `age_s` old.
        """
        assert self.feeder is not None
        LOG.warning("%s halts: %s", self, why)
        self.phase = "halted"
        seq = self.feeder.seq
        report = Halted(
            portfolio=self.portfolio, epoch=self.epoch, seq=seq, age_s=age_s, reason=limit
        )
        self._context.outbox.add(report)
        self._context.on_change()

    def _end_quietly(self) -> None:
        """Kill the process without a report: the run has another owner."""
        self._kill_child()
        self.phase, self._ended_at_s = "ended", boottime_s()
        self._context.on_change()

    def _kill_child(self) -> None:
        child, self.child, self._state_in_process = self.child, None, None
        if child is not None:
            child.kill()

    def _cancel(self) -> None:
        """Cancel the task, unless it is the caller."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            self._task = None
