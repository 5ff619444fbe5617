"""The reference run: one process handles the log, from the first event or an anchor on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from portfolios.feeds.history import newest_events
from portfolios.runtime.events import encode_events, join_events
from portfolios.runtime.messages import Batch, Failed, Load, Loaded, Result
from portfolios.runtime.results import BatchResult
from portfolios.verify.compare_state import without_event_count, without_figures
from portfolios.verify.replay_process import Ask, ReplayProcessEnded
from portfolios.verify.types import Anchor, Difference, ProducedRows, RecordedRun

BATCH_EVENTS = 2_000  #: events in one request, so that one time limit fits every request
MAX_BATCH_SEQS = 100_000  #: seqs in one request: with one symbol, few of them are events

_NO_EVENTS = join_events([])


class ReplayDiverged(Exception):
    """The replay failed where the fleet committed."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.sentence())
        self.difference = difference


class ReferenceRun:
    """Runs the recorded inputs of a portfolio again, tenure by tenure. Keeps the newest state."""

    def __init__(
        self,
        recorded: RecordedRun,
        ask: Ask,
        on_progress: Callable[[int], None],
        counted_from: int | None = None,
        figures_from: int | None = None,
        start: Anchor | None = None,
    ) -> None:
        """Begin before the first event, or at `start`.

        `on_progress` is called with the seq after each batch. `counted_from` and `figures_from` are
        where the recorded event count and figures begin: later than the first event if an older
        version, which had none, made the state before it.
        """
        self._recorded, self._ask, self._on_progress = recorded, ask, on_progress
        self._suppressed = merge_ranges(recorded.suppressed)
        self._range = next(self._suppressed, None)  # the suppressed range that is now, or next
        tenures = recorded.tenure_segments
        begun = 0 if start is None else sum(one.epoch <= start.epoch for one in tenures)
        self._upcoming = list(reversed(tenures[begun:]))  # the next one last
        self._tenure = tenures[max(begun - 1, 0)]
        self._loaded = False
        self._symbols: frozenset[str] | None = None  # whose events the process needs
        self.seq = recorded.first_seq - 1 if start is None else start.seq
        counts = ((counted_from, without_event_count), (figures_from, without_figures))
        #: (event at which a count begins anew, function that removes what was counted before it)
        self._restarts = [
            (first, forget) for first, forget in counts if first is not None and first > self.seq
        ]
        self.state = None if start is None else start.state  #: after `seq`, encoded
        self.events = 0

    @property
    def epoch(self) -> int:
        """Return the epoch of the current tenure."""
        return self._tenure.epoch

    def advance(self, to_seq: int) -> ProducedRows:
        """Return the rows that the run produces in (seq, to_seq]. Raise ReplayDiverged."""
        rows = ProducedRows()
        self._start_due_tenures()
        while self.seq < to_seq:
            self._run_batch(to_seq, rows)
            self._on_progress(self.seq)
            self._start_due_tenures()
        return rows

    def _restart_due_counts(self) -> None:
        """Remove what was counted so far, if the recorded count begins at the next event."""
        for restart in list(self._restarts):
            first, forget = restart
            if first == self.seq + 1:
                self._restarts.remove(restart)  # once
                if self.state is not None:
                    self.state, self._loaded = forget(self.state), False

    def _start_due_tenures(self) -> None:
        """Load each tenure that begins at the next event or before it.

        Every one adapts the state, even if its owner made only a first, empty commit.
        """
        self._restart_due_counts()
        while self._upcoming and self._upcoming[-1].first_seq <= self.seq + 1:
            before, self._tenure = self._tenure, self._upcoming.pop()
            if not self._loaded or self._tenure.spec != before.spec:
                self._load()
        if not self._loaded:
            self._load()

    def _load(self) -> None:
        """Load the state under the current tenure's spec."""
        spec = self._tenure.spec
        loaded = self._request(Load(spec, self.state, self.seq))
        assert isinstance(loaded, Loaded), loaded
        if loaded.needs_history:
            feed, segments = self._recorded.feed, self._recorded.segments
            history = newest_events(
                feed, spec.symbol_set(), loaded.last_seq, loaded.needs_history, segments
            )
            loaded = self._request(Load(spec, self.state, self.seq, history=encode_events(history)))
            assert isinstance(loaded, Loaded), loaded
        self._symbols, self._loaded = loaded.symbols(spec), True
        self._run(self.seq, False, _NO_EVENTS)  # returns the state as loaded

    def _run_batch(self, to_seq: int, rows: ProducedRows) -> None:
        """Run the next events, up to `to_seq` at most, and add what they produced to `rows`."""
        last = min(to_seq, self.seq + MAX_BATCH_SEQS)
        # A batch ends where a tenure or a count begins, and where the suppression changes.
        if self._upcoming:
            last = min(last, self._upcoming[-1].first_seq - 1)
        last = min([last, *(first - 1 for first, _ in self._restarts)])
        while self._range is not None and self._range[1] <= self.seq:
            self._range = next(self._suppressed, None)
        suppress = False
        if self._range is not None:
            first_suppressed, last_suppressed = self._range
            suppress = first_suppressed <= self.seq + 1
            last = min(last, last_suppressed if suppress else first_suppressed - 1)
        recorded = self._recorded
        events = recorded.feed.read_for(
            self._symbols, self.seq + 1, last, recorded.segments, BATCH_EVENTS
        )
        if len(events) == BATCH_EVENTS:
            last = events[-1].seq
        if not events:  # the process only moves to `last`, as a node skips such a range
            self._run(last, False, _NO_EVENTS)
            return
        result = self._run(last, suppress, encode_events(events))
        self.events += sum(event.seq <= result.to_seq for event in events)
        rows.orders.extend(result.orders)
        rows.fills.extend(result.fills)
        rows.equity.extend(result.equity)
        rows.ended.extend(result.ended)

    def _run(self, to_seq: int, suppress: bool, events: bytes) -> BatchResult:
        """Return the result of one batch, and keep the seq and the state that it reached."""
        reply = self._request(Batch(self.seq, to_seq, suppress, events))
        assert isinstance(reply, Result), reply
        self.seq = reply.result.to_seq  # lower if a limit halted it there
        if reply.result.state is not None:
            self.state = reply.result.state
        return reply.result

    def _request(self, request: Load | Batch) -> object:
        """Return the reply to a request. Raise ReplayDiverged if it fails or the process ends."""
        try:
            reply = self._ask(request)
        except ReplayProcessEnded as ended:
            raise self._divergence(request, self.seq + 1, str(ended)) from None
        if isinstance(reply, Failed):
            raise self._divergence(request, reply.seq or self.seq + 1, reply.error)
        return reply

    def _divergence(self, request: Load | Batch, seq: int, error: str) -> ReplayDiverged:
        """Return the error of a request that failed where the fleet committed."""
        tenure, what_failed = self._tenure, "loading"
        if isinstance(request, Batch):
            what_failed = f"seq {request.from_seq + 1}–{request.to_seq}"
        return ReplayDiverged(
            Difference(
                seq=seq,
                kind="replay",
                what=f"{tenure.spec.strategy} of r{tenure.spec.revision}",
                field=f"outcome of {what_failed}",
                found="a commit",
                wanted=f"a failure: {error}",
                where=tenure.where,
            )
        )


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges, which come sorted, with adjacent ones joined.

    Each commit of a catch-up stores one range.
    """
    joined: tuple[int, int] | None = None
    for first, last in ranges:
        if joined is not None and first <= joined[1] + 1:
            joined = (joined[0], max(joined[1], last))
            continue
        if joined is not None:
            yield joined
        joined = (first, last)
    if joined is not None:
        yield joined
