"""The canary's digest against one computed from the feed's table without the runtime."""

from __future__ import annotations

import hashlib
from decimal import Decimal

from portfolios.feeds import open_feed
from portfolios.feeds.clock import Segment
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.state import strategy_view
from portfolios.strategies.canary import Canary
from tests.support.market_factories import bar, spec
from tests.support.single_process_run import replay
from tests.unit.portfolios.test_feed_replay import table_rows

ONE_A_SECOND = Segment(1, 0, 1.0)


def test_canary_digest_equals_that_of_the_log_across_the_end_of_a_lap() -> None:
    rows, digest = table_rows(), bytes(32)
    for seq in range(92_000, 92_501):
        row = rows[(seq - 1) % len(rows)]
        line = f"{seq} {row['Symbol']} {Decimal(row['Close']):.4f}"
        digest = hashlib.sha256(digest + line.encode()).digest()
    canary = spec("canary", first_seq=92_000)
    seen = replay([(92_000, canary)], open_feed("replay"), [ONE_A_SECOND], 92_500)
    assert strategy_view(seen.state) == {
        "events": 501,
        "first_seq": 92_000,
        "last_seq": 92_500,
        "gaps": 0,
        "duplicates": 0,
        "digest": digest.hex(),
    }
    assert (seen.orders, seen.fills) == ([], [])


def witness(*seqs: int) -> tuple[int, int, int, int]:
    """Return (events, last_seq, gaps, duplicates) of a canary that saw these."""
    canary = Canary(Canary.convert({}))
    state = canary.initial()
    context = PortfolioEngine.fresh(spec("canary"))._context
    for seq in seqs:
        canary.on_event(context, state, bar(seq, "KO", "1", "1"))
    return state["events"], state["last_seq"], state["gaps"], state["duplicates"]


def test_the_canary_counts_missing_seqs() -> None:
    assert witness(5, 6, 9, 10, 12) == (5, 12, 3, 0)  # 7, 8 and 11


def test_the_canary_counts_repeated_and_late_events() -> None:
    assert witness(5, 6, 6, 7, 5, 8) == (6, 8, 0, 2)  # the second 6 and the second 5
