"""After an outage: how each `catch_up` handles stale events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from portfolios.feeds.clock import Segment
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import decode_state, encode_state
from scheduling.wire import messages as wire
from tests.support.daemons import (
    Daemons,
    assert_canary_is_exact,
    awaited_reports,
    pids_of,
    reports,
)
from tests.support.fake_gateway import FakeGateway
from tests.support.single_process_run import replay

HEAD = 6_000  #: events of 40 s, when the outage ends
RATE = 150.0
STALE = HEAD - int(5 * RATE)  #: older than 5 s at that moment
LIVELY = {
    "strategy": "mean_reversion",
    "parameters": {"lookback": 5, "entry_z": 0.5, "exit_z": 0.1, "quantity": "1"},
    "symbols": ["KO", "GE", "IBM"],
}


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway(rate=RATE, released=HEAD) as fake:
        yield fake


async def start_and_catch_up(
    gateway: FakeGateway, daemons: Daemons, **given: Any
) -> wire.DesiredEntry:
    """Start a portfolio at seq 0, 40 s behind, and return its entry when it has caught up."""
    gateway.next_beat_s = 0.2
    gateway.grant("node-1", 1, last_seq=0)
    entry = gateway.entry(1, "run", first_seq=1, **given)
    await gateway.want("node-1", entry)
    await daemons.start()
    await gateway.until(lambda: gateway.head() - gateway.runs[1].last_seq < 100)
    return entry


def suppressed_ranges(gateway: FakeGateway) -> list[tuple[int, int]]:
    """Return the ranges that the database would keep: both ends included."""
    commits = gateway.runs[1].commits
    return [(c.from_seq + 1, c.to_seq) for c in commits if c.suppress and c.to_seq > c.from_seq]


def assert_identical(gateway: FakeGateway, entry: wire.DesiredEntry, ranges: Any) -> None:
    """Assert that one process makes the same of the log with these ranges suppressed."""
    commits, run = list(gateway.runs[1].commits), gateway.runs[1]
    segments = [Segment(s.from_seq, s.from_time_us, s.rate) for s in gateway.segments]
    spec = msgspec.convert(entry.spec, Spec)
    alone = replay([(1, spec)], gateway.feed, segments, run.last_seq, ranges)
    assert run.state is not None
    assert decode_state(run.state) == alone.state
    ours = [(o.seq, o.index, o.symbol, o.side, o.status) for c in commits for o in c.orders]
    assert ours == [(o.seq, o.index, o.symbol, o.side, o.status) for o in alone.orders]
    fills = [(f.order_seq, f.fill_seq, f.price) for c in commits for f in c.fills]
    assert fills == [(f.order_seq, f.fill_seq, f"{f.price:f}") for f in alone.fills]


async def stop(gateway: FakeGateway) -> None:
    """Remove the portfolio from its node, so that nothing more is committed."""
    await gateway.want("node-1")
    await gateway.until(lambda: gateway.beats[-1][1].portfolios == [])


async def test_catch_up_state_only_suppresses_old_decisions_and_records_their_exact_range(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    entry = await start_and_catch_up(gateway, daemons, catch_up="state_only", **LIVELY)
    await asyncio.sleep(1.0)
    await stop(gateway)
    ranges = suppressed_ranges(gateway)
    first, last = ranges[0][0], ranges[-1][1]
    assert first == 1
    assert [to + 1 for _, to in ranges[:-1]] == [start for start, _ in ranges[1:]]  # no hole
    assert STALE <= last < gateway.runs[1].last_seq
    old = [o for c in gateway.runs[1].commits if c.suppress for o in c.orders]
    new = [o for c in gateway.runs[1].commits if not c.suppress for o in c.orders]
    assert {o.status for o in old} == {"suppressed"}
    assert old[-1].seq <= last
    assert all(o.seq > last and o.status != "suppressed" for o in new)
    assert_identical(gateway, entry, ranges)
    shorter = [(start, min(to, old[-1].seq - 1)) for start, to in ranges if start < old[-1].seq]
    with pytest.raises(AssertionError):  # one event less, and the run is another
        assert_identical(gateway, entry, shorter)


async def test_full_catch_up_places_orders_on_events_of_any_age(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    entry = await start_and_catch_up(gateway, daemons, catch_up="full", **LIVELY)
    await stop(gateway)
    assert suppressed_ranges(gateway) == []
    assert "suppressed" not in {o.status for c in gateway.runs[1].commits for o in c.orders}
    assert any(o.seq < STALE for c in gateway.runs[1].commits for o in c.orders)
    assert_identical(gateway, entry, [])


async def test_catch_up_halt_stops_before_the_first_old_event_of_its_symbols(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.grant("node-1", 1, last_seq=0)
    await gateway.want("node-1", gateway.entry(1, "run", first_seq=1, catch_up="halt", **LIVELY))
    await daemons.start()
    (halted,) = await awaited_reports(gateway, wire.Halted)
    of_its_own = gateway.feed.read_for(frozenset(LIVELY["symbols"]), 1, 1000, (), 1)
    assert halted.seq == gateway.runs[1].last_seq == of_its_own[0].seq - 1
    assert halted.age_s > 5
    assert [o for c in gateway.runs[1].commits for o in c.orders] == []


async def test_catch_up_halt_suppresses_missed_events_after_a_start_instead_of_halting(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    resumed = STALE - 500  # the start was a while ago: what came since is old by now too
    entry = await start_and_catch_up(
        gateway, daemons, catch_up="halt", resume_seq=resumed, **LIVELY
    )
    await stop(gateway)
    assert reports(gateway, wire.Halted) == []
    assert suppressed_ranges(gateway)[-1][1] >= STALE
    assert_identical(gateway, entry, suppressed_ranges(gateway))


async def test_catch_up_halt_stops_at_stale_events_behind_the_resume_seq(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.grant("node-1", 1, last_seq=200)
    await gateway.want("node-1", gateway.entry(1, "run", catch_up="halt", resume_seq=200))
    await daemons.start()
    await awaited_reports(gateway, wire.Halted)
    assert gateway.runs[1].last_seq == 200


async def test_start_lifts_a_halt_by_a_limit_though_other_events_were_committed_since(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    cases = [
        (150, 100, False),
        (150, 99, True),  # it halted while it caught up, and its process ended before the report
        (150, -1, False),  # from an older gateway
        (99, -1, True),
    ]
    entries = []
    for portfolio, (resumed, resumed_from, _) in enumerate(cases, start=1):
        gateway.grant("node-1", portfolio, last_seq=100)
        given = {"resume_seq": resumed, "resumed_from": resumed_from, "catch_up": "full"}
        entries.append(gateway.entry(portfolio, "run", first_seq=1, **given))
        engine = PortfolioEngine.fresh(msgspec.convert(entries[-1].spec, Spec))
        engine.state.account.halted = "the equity is too far below its peak"
        run = gateway.runs[portfolio]
        run.state, run.state_seq, run.state_revision = encode_state(engine.state), 100, 1
        run.last_seq = 200  # events of other symbols were committed since, without a state
    await gateway.want("node-1", *entries)
    await daemons.start()

    def goes_on() -> list[bool]:
        return [gateway.runs[portfolio].last_seq > 200 for portfolio in (1, 2, 3, 4)]

    def halted() -> list[bool]:
        told = [report.portfolio for report in reports(gateway, wire.Halted)]
        return [portfolio in told for portfolio in (1, 2, 3, 4)]

    await gateway.until(lambda: all(map(any, zip(goes_on(), halted(), strict=True))))
    assert halted() == [halts for *_, halts in cases]
    assert goes_on() == [not halts for *_, halts in cases]


async def test_a_change_of_catch_up_holds_at_once_in_the_same_process(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    gateway.next_beat_s = 0.5
    await daemons.start()
    await gateway.until(lambda: gateway.sockets)
    gateway.grant("node-1", 1)
    await gateway.want("node-1", gateway.entry(1, "run", catch_up="halt"))
    await gateway.until(lambda: gateway.committed(1) > 30)
    await gateway.want("node-1", gateway.entry(1, "run", catch_up="full"))
    newest = gateway.versions["node-1"]
    await gateway.until(lambda: gateway.beats[-1][1].have_version == newest)
    gateway.away = True
    await asyncio.sleep(6.0)
    gateway.away = False
    missed_to = gateway.head()
    await gateway.until(lambda: gateway.runs[1].last_seq > missed_to + 50)
    assert reports(gateway, wire.Halted) == []
    assert suppressed_ranges(gateway) == []
    assert len(pids_of(gateway)) == 1
    assert_canary_is_exact(gateway, 1)


async def test_a_feed_that_stands_still_neither_stalls_nor_halts_a_portfolio(
    gateway: FakeGateway, daemons: Daemons
) -> None:
    began = gateway.segments[0].from_time_us
    gateway.segments = [
        wire.SegmentInfo(0, began, RATE),
        wire.SegmentInfo(HEAD, began + int(HEAD / RATE * 1e6), 0.0),
    ]
    gateway.next_beat_s = 0.2
    gateway.grant("node-1", 1, last_seq=HEAD)
    await gateway.want("node-1", gateway.entry(1, "run", catch_up="halt"))
    await daemons.start()
    await gateway.until(lambda: len(gateway.beats) > 12 and gateway.committed(1) == 0)
    shown = [a for _, beat in gateway.beats for a in beat.portfolios if a.phase == "running"]
    assert shown
    assert {(a.lag, a.stalled_s) for a in shown} == {(0, 0.0)}
    assert gateway.reports == []
