"""One portfolio process of a simulated daemon: its phase, state and unanswered commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from scheduling.decide.reconcile import Process
from scheduling.wire.messages import Commit, DesiredEntry, FillLine, OrderLine
from tests.simulation.trading import State, see

MAX_EVENTS = 50


@dataclass
class Hosted:
    """A hosted process. Its phases are those of `decide.reconcile.Process`."""

    slot: int
    entry: DesiredEntry
    phase: str
    epoch: int = 0
    handoff: int | None = None
    kept: int | None = None  #: the handoff whose release was answered `keep`
    ended_at: float = 0.0
    reported: bool = True
    failures: int = 0
    state: State | None = None  #: None: no process, or nothing loaded yet
    state_seq: int = 0
    committed: int = 0
    pending: Commit | None = None  #: sent, and no definite answer yet
    batch: Batch | None = None  #: the batch of `pending`
    owns: bool = False  #: its first commit was accepted
    events_seen: bool = False
    activated: bool = False  #: a commit under `epoch` was accepted, by this process or an earlier

    @property
    def portfolio(self) -> int:
        return self.entry.portfolio

    @property
    def revision(self) -> int:
        return self.entry.revision

    def view(self) -> Process:
        """Return the view that reconcile needs."""
        return Process(
            self.slot, self.portfolio, self.epoch, self.revision, self.phase, self.handoff,
            self.kept, self.ended_at, self.reported, self.failures,
        )  # fmt: skip

    def own(self, entry: DesiredEntry) -> None:
        """Start to own the entry's epoch."""
        if entry.epoch != self.epoch:
            self.activated = False
        self.entry, self.epoch, self.handoff = entry, entry.epoch, entry.handoff
        self.phase, self.pending, self.owns = "starting", None, False

    def end(self, phase: str, now: float) -> None:
        """Record that the process has exited."""
        self.phase, self.ended_at, self.state, self.pending = phase, now, None, None
        self.owns = False


@dataclass
class Batch:
    """The results of a process since its last commit."""

    state: State
    to_seq: int
    suppress: bool = False
    orders: list[OrderLine] = field(default_factory=list)
    fills: list[FillLine] = field(default_factory=list)

    def commit(self, hosted: Hosted, batch: UUID, release: int | None) -> Commit:
        """Return the commit of this batch."""
        moved = self.to_seq > hosted.committed or not hosted.owns
        return Commit(
            portfolio=hosted.portfolio, epoch=hosted.epoch, from_seq=hosted.committed,
            to_seq=self.to_seq, batch=str(batch), state=self.state.encode() if moved else None,
            suppress=self.suppress, orders=self.orders, fills=self.fills, release=release,
        )  # fmt: skip


def run(hosted: Hosted, to_seq: int, suppress: bool) -> Batch:
    """Process the events after the last commit, up to `to_seq`."""
    assert hosted.state is not None
    done = Batch(hosted.state, hosted.committed, suppress)
    for seq in range(hosted.committed + 1, to_seq + 1):
        step = see(done.state, hosted.revision, seq, suppress)
        done.state, done.to_seq = step.state, seq
        if step.fill is not None:
            done.fills.append(FillLine(step.fill, 0, seq, 0, "AAPL", "buy", "1", "2", seq))
        if step.order is not None:
            done.orders.append(OrderLine(seq, 0, "AAPL", "buy", "1", "2", "open", "", seq))
    return done
