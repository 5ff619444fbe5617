"""Run a strategy over a range of a feed, in the sandboxed process that verifications use too.

Events are read and encoded here while that process handles the batch before, so that a backtest is
about as fast as the strategy alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from portfolios.backtest.feed_range import FeedRange, moment
from portfolios.backtest.figures import Tally
from portfolios.feeds.base import Feed
from portfolios.feeds.history import newest_events
from portfolios.runtime.events import Event, encode_events
from portfolios.runtime.messages import Batch, Failed, Load, Loaded, Reply, Result
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import State, decode_state
from portfolios.sentences import sentence as _
from portfolios.verify.replay_process import Ask, ReplayProcessEnded

#: The number of events in a batch follows the strategy's speed: a slow one must answer within the
#: process's time limit, a fast one must not wait for messages.
FIRST_BATCH, MIN_BATCH, MAX_BATCH = 500, 50, 10_000
FAST_S, SLOW_S = 0.1, 1.0  #: a batch handled faster doubles the next one, a slower one halves it
#: Seqs in one batch. With one symbol, few of these have an event that the strategy sees.
MAX_BATCH_SEQS = 100_000


class StrategyStopped(Exception):
    """The strategy failed, or its process ended. The text is a sentence.

    `seq` is the event at which it failed, None if it failed at no event; if the process ended, the
    first event of the request. `trace` is a traceback, "" without one.
    """

    def __init__(self, message: str, seq: int | None, trace: str) -> None:
        super().__init__(message)
        self.message, self.seq, self.trace = message, seq, trace


@dataclass(frozen=True, slots=True)
class Backtest:
    """One strategy under one spec over one range; the spec's first seq is where it begins."""

    spec: Spec
    feed: Feed
    range: FeedRange


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """The sums, the orders and the last state of a backtest."""

    backtest: Backtest
    tally: Tally
    state: State  #: after the last event
    elapsed_s: float


def run_backtest(
    backtest: Backtest, ask: Ask, on_progress: Callable[[int], None] = lambda seq: None
) -> BacktestResult:
    """Run a backtest and return its result. Call `on_progress` with the seq after each batch.

    Where a limit halts the portfolio, the run ends. Raise StrategyStopped at the first failure.
    """
    return _Run(backtest, ask).run_to_end(on_progress)


class _Run:
    """One backtest in progress."""

    def __init__(self, backtest: Backtest, ask: Ask) -> None:
        self._backtest, self._ask = backtest, ask
        self._tally = Tally(backtest.spec.starting_cash)
        self._symbols = backtest.spec.symbol_set()
        self._size = FIRST_BATCH
        self._state: bytes | None = None
        self._now_us = 0  # the newest release time: it never goes back

    def run_to_end(self, on_progress: Callable[[int], None]) -> BacktestResult:
        """See `run_backtest`."""
        begun = time.monotonic()
        first, last = self._backtest.range.first, self._backtest.range.last
        self._load(first)
        asking = ThreadPoolExecutor(1, thread_name_prefix="backtest")
        try:
            seq = first - 1
            events, to_seq = self._next_events(seq)
            while True:
                batch = Batch(seq, to_seq, suppress=False, events=encode_events(events))
                answer = asking.submit(self._timed_reply, batch)
                following = self._next_events(to_seq) if to_seq < last else None
                reply = answer.result()
                assert isinstance(reply, Result), reply
                self._state = reply.result.state or self._state
                self._tally.add(events, reply.result)
                on_progress(reply.result.to_seq)
                if following is None or reply.result.halt:
                    last = reply.result.to_seq
                    break
                seq, (events, to_seq) = to_seq, following
        finally:  # an interrupt must not wait for the answer: the caller kills the process
            asking.shutdown(wait=False, cancel_futures=True)
        assert self._state is not None  # the first batch returns it
        state = decode_state(self._state)
        self._tally.close(state.account.equity, last)
        return BacktestResult(self._backtest, self._tally, state, time.monotonic() - begun)

    def _load(self, first: int) -> None:
        """Load the strategy to begin at seq `first`, and again with earlier events if it asks."""
        backtest = self._backtest
        loaded = self._reply(Load(backtest.spec, state=None, last_seq=0), first)
        assert isinstance(loaded, Loaded), loaded
        if loaded.needs_history:  # nothing is loaded yet
            history = newest_events(backtest.feed, self._symbols, first - 1, loaded.needs_history)
            seen = encode_events([self._release_at_event_time(event) for event in history])
            self._reply(Load(backtest.spec, state=None, last_seq=0, history=seen), first)

    def _next_events(self, after: int) -> tuple[list[Event], int]:
        """Return the next events after the seq `after`, and the seq up to which none is missing."""
        last = min(self._backtest.range.last, after + MAX_BATCH_SEQS)
        size = self._size
        events = self._backtest.feed.read_for(self._symbols, after + 1, last, limit=size)
        if len(events) == size:
            last = events[-1].seq
        return [
            self._release_at_event_time(event)
            for event in events
            if self._backtest.range.has_time(event.time)
        ], last

    def _release_at_event_time(self, event: Event) -> Event:
        """Return the event as released at its own time, but never before an earlier event."""
        self._now_us = max(self._now_us, event.time)
        return msgspec.structs.replace(event, released=self._now_us)

    def _timed_reply(self, batch: Batch) -> Reply:
        """Return the reply to a batch; the time it took sets the size of later batches."""
        begun = time.monotonic()
        reply = self._reply(batch, batch.from_seq + 1)
        took = time.monotonic() - begun
        if took < FAST_S:
            self._size = min(self._size * 2, MAX_BATCH)
        elif took > SLOW_S:
            self._size = max(self._size // 2, MIN_BATCH)
        return reply

    def _reply(self, request: Load | Batch, at_seq: int) -> Reply:
        """Return the reply of the process. Raise StrategyStopped if it is Failed, or if it ends.

        `at_seq` is the first event of a batch, or the one before which the strategy is loaded.
        """
        spec = self._backtest.spec
        try:
            reply = self._ask(request)
        except ReplayProcessEnded as ended:
            last = request.to_seq if isinstance(request, Batch) else at_seq
            raise StrategyStopped(
                _(
                    "{strategy} stopped at seq {seqs}: {ended}.",
                    strategy=spec.strategy,
                    seqs=f"{at_seq:,}–{last:,}" if last != at_seq else f"{at_seq:,}",
                    ended=ended,
                ),
                at_seq,
                "",
            ) from None
        if isinstance(reply, Failed):
            where = "" if reply.seq is None else f" ({self._describe_event(reply.seq)})"
            raise StrategyStopped(
                _(
                    "{strategy} failed: {error}{where}.",
                    strategy=spec.strategy,
                    error=reply.error,
                    where=where,
                ),
                reply.seq,
                reply.trace,
            )
        return reply

    def _describe_event(self, seq: int) -> str:
        event = self._backtest.feed.read(seq, 1)[0]
        return f"{event.symbol}, {moment(event.time)}"
