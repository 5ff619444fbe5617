"""Backtest a configuration before it is saved: over few events, within a time limit, one at a time.

Nothing is written. The strategy runs in the sandboxed process of a backtest, not in this one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from portfolios.backtest.document import Figures, document_of
from portfolios.feed_registration import current_head
from portfolios.feeds.base import Feed
from portfolios.feeds.history import newest_events
from portfolios.models import FeedKind, FeedRow
from portfolios.runtime.events import Event
from portfolios.runtime.spec import symbol_set
from portfolios.sentences import sentence as _
from scheduling.errors import Refused
from scheduling.operations.backtests import NewBacktest, open_backtest_feed, run_new_backtest

EVENTS = 10_000  #: of the portfolio's symbols
LIMIT_S = 20.0  #: of the whole dry run
SLOT_WAIT_S = 2.0  #: how long a dry run waits for the end of another one

_slot = threading.BoundedSemaphore(1)


@dataclass(frozen=True, slots=True)
class DryRun:
    """The figures of a new configuration and of the present one, over the same events."""

    after: Figures  #: of the new one
    before: Figures | None  #: of the present one; None: it failed, or the portfolio is new
    before_failed: str  #: why the present configuration failed; "": it did not
    is_newest: bool  #: run over the newest events of the feed; else over the first of its log
    elapsed_s: float


def dry_run(wanted: NewBacktest, present: NewBacktest | None = None) -> DryRun:
    """Run `wanted`, and `present` if given, over the newest EVENTS events of their symbols.

    A failure of `present` is part of the result. Raise Invalid if `wanted` is a wrong
    configuration. Raise Refused if the strategy of `wanted` fails, if there are no events, after
    LIMIT_S, or if another dry run is under way.
    """
    begun = time.monotonic()
    with _one_at_a_time():
        feed = open_backtest_feed(wanted.feed)
        events, is_newest = _events(feed, _symbols(wanted, present))
        if not events:
            message = _("{name} has no event of these symbols yet.", name=feed.name)
            raise Refused("wrong_range", message)
        until = begun + LIMIT_S
        first, last = str(events[0].seq), str(events[-1].seq)
        after = _figures(replace(wanted, first=first, last=last), until)
        before, failed = None, ""
        if present is not None:
            try:
                before = _figures(replace(present, first=first, last=last), until)
            except Refused as refused:
                failed = refused.message
    return DryRun(after, before, failed, is_newest, time.monotonic() - begun)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Run the block alone in this process. Raise Refused if another runs on for SLOT_WAIT_S."""
    if not _slot.acquire(timeout=SLOT_WAIT_S):
        raise Refused(
            "busy", _("Another dry run is under way; repeat this one in a few seconds."), status=503
        )
    try:
        yield
    finally:
        _slot.release()


def _symbols(wanted: NewBacktest, present: NewBacktest | None) -> frozenset[str] | None:
    """Return the symbols that either trades (None: all), since both run over the same events."""
    found = symbol_set(wanted.symbols)
    other = found if present is None else symbol_set(present.symbols)
    return None if found is None or other is None else found | other


def _events(feed: Feed, symbols: frozenset[str] | None) -> tuple[list[Event], bool]:
    """Return (events, whether they are the newest released ones), EVENTS at most.

    If fewer than EVENTS of a packaged log are released, they are the first ones of the log.
    """
    head = current_head(feed.name)
    found = newest_events(feed, symbols, head, EVENTS) if head else []
    recorded = FeedRow.objects.filter(name=feed.name, kind=FeedKind.RECORDED).exists()
    if len(found) == EVENTS or recorded:
        return found, True
    return feed.read_for(symbols, 1, feed.length, limit=EVENTS), False


def _figures(backtest: NewBacktest, until: float) -> Figures:
    """Run a backtest and return its figures. `until` is a `time.monotonic`.

    Raise Invalid or Refused as `run_new_backtest` does, and Refused `too_slow` after `until`.
    """
    left_s = max(until - time.monotonic(), 1.0)  # if too little is left, `_stop_after` ends the run
    try:
        return document_of(run_new_backtest(backtest, _stop_after(until), left_s)).figures
    except Refused as refused:
        # A process that was killed at the limit, during an answer, leaves no traceback.
        was_killed = time.monotonic() > until and not refused.extra.get("trace")
        if refused.code == "strategy_failed" and was_killed:
            raise _too_slow() from None
        raise


def _stop_after(until: float) -> Callable[[int, int, int], None]:
    """Return a function that is called with the progress, and raises Refused if it is too late.

    Its arguments are (first seq, seq reached, last seq). `until` is a `time.monotonic`.
    """

    def refuse_if_late(first: int, reached: int, last: int) -> None:
        if time.monotonic() > until:
            percent = 100 * (reached - first + 1) // (last - first + 1)
            raise _too_slow(percent)

    return refuse_if_late


def _too_slow(percent: int | None = None) -> Refused:
    """Return the refusal of a run that was stopped when `percent` of its events were done."""
    reached = "" if percent is None else _(", {share} of the way", share=f"{percent} %")
    message = _(
        "The dry run was stopped after {limit_s:g} s{reached}: the strategy is slow. "
        "`manage.py backtest` has no such limit.",
        limit_s=LIMIT_S,
        reached=reached,
    )
    return Refused("too_slow", message)
