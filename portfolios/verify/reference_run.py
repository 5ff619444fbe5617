"""The uninterrupted run: the log, from the first event or an anchor on, through one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from portfolios.runtime.events import encode_events, join_events
from portfolios.runtime.messages import Batch, Failed, Load, Loaded, Result
from portfolios.runtime.results import BatchResult
from portfolios.verify.compare_state import without_event_count
from portfolios.verify.replay_process import Ask, ReplayProcessEnded
from portfolios.verify.types import Anchor, Difference, ProducedRows, RecordedRun, TenureSegment

BATCH_EVENTS = 2_000  #: events of its symbols in one request, so that one limit fits all
MAX_BATCH_SEQS = 100_000  #: seqs in one request: a portfolio of one symbol sees few of them

_NO_EVENTS = join_events([])


class ReplayDiverged(Exception):
    """The replay could not go on where the fleet did."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.sentence())
        self.difference = difference


class ReferenceRun:
    """Runs the recorded inputs once more. Nothing is kept but the newest state."""

    def __init__(
        self,
        recorded: RecordedRun,
        ask: Ask,
        told: Callable[[int], None],
        counted_from: int | None = None,
        start: Anchor | None = None,
    ) -> None:
        """Begin before the first event, or at `start`. `told` hears the seq after each piece.

        `counted_from` is where the recorded count of events begins: later than the first event
        where an older version, which did not count, made the state before it.
        """
        self._recorded, self._ask, self._told = recorded, ask, told
        self._suppressed = merge_ranges(recorded.suppressed)
        self._range = next(self._suppressed, None)
        before = [s for s in recorded.stretches if start is not None and s.epoch <= start.epoch]
        self._waiting = list(reversed(recorded.stretches[len(before) :]))
        self._stretch = before[-1] if before else recorded.stretches[0]
        self._loaded = False
        self._symbols: frozenset[str] | None = None  # whose events the process needs
        self._counted_from = counted_from
        self.seq = recorded.first_seq - 1 if start is None else start.seq
        self.state = None if start is None else start.state  #: after `seq`, encoded
        self.events = 0

    @property
    def epoch(self) -> int:
        """Return the epoch of the stretch whose spec is loaded."""
        return self._stretch.epoch

    def advance(self, to_seq: int) -> ProducedRows:
        """Return what the run produces in (seq, to_seq]. Raise Disagrees where it cannot go on."""
        rows = ProducedRows()
        self._change_stretch()
        while self.seq < to_seq:
            self._piece(to_seq, rows)
            self._told(self.seq)
            self._change_stretch()
        return rows

    def _change_stretch(self) -> None:
        """Load what begins with the next event. An owner that committed nothing but its first,
        empty commit has adapted the state all the same."""
        if self._counted_from == self.seq + 1:
            self._counted_from = None  # once
            if self.state is not None:
                self.state, self._loaded = without_event_count(self.state), False
        while self._waiting and self._waiting[-1].first_seq <= self.seq + 1:
            before, self._stretch = self._stretch, self._waiting.pop()
            if not self._loaded or self._stretch.spec != before.spec:
                self._load()
        if not self._loaded:
            self._load()

    def _load(self) -> None:
        spec = self._stretch.spec
        loaded = self._request(Load(spec, self.state, self.seq))
        assert isinstance(loaded, Loaded), loaded
        self._symbols, self._loaded = loaded.symbols(spec), True
        self._run(self.seq, False, _NO_EVENTS)  # answers with the state as it was loaded

    def _piece(self, to_seq: int, rows: ProducedRows) -> None:
        last = min(to_seq, self.seq + MAX_BATCH_SEQS)
        if self._waiting:
            last = min(last, self._waiting[-1].first_seq - 1)
        if self._counted_from is not None and self._counted_from > self.seq + 1:
            last = min(last, self._counted_from - 1)
        while self._range is not None and self._range[1] <= self.seq:
            self._range = next(self._suppressed, None)
        suppress = False
        if self._range is not None:
            suppress = self._range[0] <= self.seq + 1
            last = min(last, self._range[1] if suppress else self._range[0] - 1)
        recorded = self._recorded
        events = recorded.feed.read_for(
            self._symbols, self.seq + 1, last, recorded.segments, BATCH_EVENTS
        )
        if len(events) == BATCH_EVENTS:
            last = events[-1].seq
        if not events:  # as on a node: nothing was for it, and nothing is asked of its process
            self._run(last, False, _NO_EVENTS)
            return
        result = self._run(last, suppress, encode_events(events))
        self.events += len(events)
        rows.orders.extend(result.orders)
        rows.fills.extend(result.fills)
        rows.equity.extend(result.equity)

    def _run(self, to_seq: int, suppress: bool, events: bytes) -> BatchResult:
        reply = self._request(Batch(self.seq, to_seq, suppress, events))
        assert isinstance(reply, Result), reply
        self.seq = to_seq
        if reply.result.state is not None:
            self.state = reply.result.state
        return reply.result

    def _request(self, request: Load | Batch) -> object:
        try:
            reply = self._ask(request)
        except ReplayProcessEnded as ended:
            raise self._disagrees(request, self.seq + 1, str(ended)) from None
        if isinstance(reply, Failed):
            raise self._disagrees(request, reply.seq or self.seq + 1, reply.error)
        return reply

    def _disagrees(self, request: Load | Batch, seq: int, error: str) -> ReplayDiverged:
        stretch: TenureSegment = self._stretch
        span = f"seq {request.from_seq + 1}–{request.to_seq}" if isinstance(request, Batch) else ""
        return ReplayDiverged(
            Difference(
                seq=seq,
                kind="replay",
                what=f"{stretch.spec.strategy} of r{stretch.spec.revision}",
                field="outcome of " + (span or "loading"),
                found="a commit",
                wanted=f"a failure: {error}",
                where=stretch.where,
            )
        )


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield sorted ranges with those that touch joined: each commit of a catch-up stores one."""
    now: tuple[int, int] | None = None
    for first, last in ranges:
        if now is not None and first <= now[1] + 1:
            now = (now[0], max(now[1], last))
            continue
        if now is not None:
            yield now
        now = (first, last)
    if now is not None:
        yield now
