"""Run a portfolio over a log in one engine, as the expected result of tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from portfolios.feeds.base import Feed
from portfolios.feeds.clock import Segment
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.results import EquityRow, FillRow, OrderRow
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import State, encode_state


class Replayed(NamedTuple):
    """Everything the run produced, and its state as of `to_seq`."""

    state: State
    orders: list[OrderRow]
    fills: list[FillRow]
    equity: list[EquityRow]


def replay(
    epochs: Sequence[tuple[int, Spec]],
    feed: Feed,
    segments: Sequence[Segment],
    to_seq: int,
    suppressed: Sequence[tuple[int, int]] = (),
) -> Replayed:
    """Return what one engine makes of the log up to and including `to_seq`.

    `epochs` are (first seq, spec) in order: each spec runs from its first seq to the next one's.
    `suppressed` are ranges of seqs, both ends included.
    """
    engine = PortfolioEngine.fresh(epochs[0][1])
    out = Replayed(engine.state, [], [], [])
    ends = [first - 1 for first, _ in epochs[1:]] + [to_seq]
    for (_, spec), end in zip(epochs, ends, strict=True):
        if spec != engine.spec:
            engine = PortfolioEngine.restore(spec, encode_state(engine.state), engine.last_seq)
        for last, suppress in _pieces(engine.last_seq, min(end, to_seq), suppressed):
            first = engine.last_seq + 1
            events = feed.read_for(engine.symbols, first, last, segments)
            result = engine.run(events, first - 1, last, suppress)
            out.orders.extend(result.orders)
            out.fills.extend(result.fills)
            out.equity.extend(result.equity)
    return out._replace(state=engine.state)


def _pieces(
    last_seq: int, end: int, suppressed: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, bool]]:
    """Yield (last seq, suppress) of pieces that tile (last_seq, end]."""
    while last_seq < end:
        first = last_seq + 1
        inside = [to for start, to in suppressed if start <= first <= to]
        ahead = [start - 1 for start, _ in suppressed if start > first]
        last_seq = min([end, *(inside or ahead)])
        yield last_seq, bool(inside)
