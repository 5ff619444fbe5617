"""The count and the digest of processed events: part of the account, whatever the batches."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from portfolios.runtime import state as runtime_state
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.errors import StateUnreadable
from portfolios.runtime.events import Event
from tests.support.market_factories import bar, run, spec

EVENTS = [bar(seq, "KO" if seq % 3 else "GE", str(9 + seq % 5), "10") for seq in range(1, 41)]


def count_of(events: list[Event], *ends: int) -> runtime_state.Processed:
    """Return the count after these events, cut into batches that end at `ends`."""
    processed = runtime_state.Processed(1)
    begin = 0
    for end in [*ends, len(events)]:
        processed.add(events[begin:end])
        begin = end
    return processed


def test_digest_of_processed_events_is_their_crc_and_adler_checksum() -> None:
    lines = b"".join(
        msgspec.msgpack.encode([e.seq, e.symbol, e.open_e4, e.high_e4, e.low_e4, e.close_e4])
        for e in EVENTS
    )
    found = count_of(EVENTS)
    assert (found.since, found.events) == (1, 40)
    assert found.digest == zlib.crc32(lines) << 32 | zlib.adler32(lines)
    assert found.digest_text == f"{zlib.crc32(lines):08x}{zlib.adler32(lines):08x}"


@pytest.mark.parametrize("ends", [(), (1,), (15, 16), (16, 32), tuple(range(1, 40)), (7, 7, 20)])
def test_digest_of_processed_events_does_not_depend_on_batches(ends: tuple[int, ...]) -> None:
    assert count_of(EVENTS, *ends) == count_of(EVENTS)


def test_digest_of_a_batch_of_over_65536_events_equals_that_of_smaller_batches() -> None:
    many = [bar(seq, "KO", "10", "10") for seq in range(1, (1 << 16) + 2)]
    assert count_of(many) == count_of(many, 1 << 15)


def changed_events(change: Callable[[list[Event]], Any]) -> list[Event]:
    events = list(EVENTS)
    change(events)
    return events


@pytest.mark.parametrize(
    "change",
    [
        lambda events: events.pop(20),
        lambda events: events.insert(20, events[20]),
        lambda events: events.__setitem__(slice(20, 22), [events[21], events[20]]),
        lambda events: events.__setitem__(20, msgspec.structs.replace(events[20], symbol="KP")),
        lambda events: events.__setitem__(20, msgspec.structs.replace(events[20], close_units=1)),
        lambda events: events.__setitem__(20, msgspec.structs.replace(events[20], open_units=1)),
        lambda events: events.__setitem__(20, msgspec.structs.replace(events[20], seq=1_000)),
    ],
    ids=["lost", "twice", "swapped", "symbol", "close", "open", "seq"],
)
def test_every_change_of_processed_events_changes_their_digest(change: Any) -> None:
    assert count_of(changed_events(change)).digest != count_of(EVENTS).digest


def test_release_time_of_an_event_does_not_change_the_digest() -> None:
    late = [msgspec.structs.replace(event, released=event.released + 1) for event in EVENTS]
    assert count_of(late) == count_of(EVENTS)


def older(state: runtime_state.State) -> bytes:
    """Return the state as versions before the count stored it: two keys, six in the account."""
    plain = msgspec.msgpack.decode(runtime_state.pack_state(state))
    plain.pop("format")
    plain["account"].pop("processed")
    plain["account"].pop("figures")
    assert list(plain) == ["account", "strategy"]
    return runtime_state.compress_state(msgspec.msgpack.encode(plain))


def test_a_state_of_the_older_format_continues_and_counts_from_its_next_event() -> None:
    engine = PortfolioEngine.fresh(spec("canary"))
    run(engine, EVENTS[:10])
    stored = older(engine.state)
    read = runtime_state.decode_state(stored)
    assert read.format == 1
    assert runtime_state.encode_state(read) == stored  # nothing is added by reading it
    restored = PortfolioEngine.restore(spec("canary"), stored, 10)
    assert restored.run([], 10, 12).state is None  # a batch without events changes nothing
    result = PortfolioEngine.restore(spec("canary"), stored, 12).run(EVENTS[12:20], 12, 20)
    assert result.state is not None
    state = runtime_state.decode_state(result.state)
    expected = runtime_state.Processed(13)
    expected.add(EVENTS[12:20])
    assert (state.format, state.account.processed) == (runtime_state.COUNTING_FORMAT, expected)
    assert expected.events == 8


def test_a_state_of_a_later_format_is_refused_with_a_remedy() -> None:
    engine = PortfolioEngine.fresh(spec("canary"))
    engine.state.format = runtime_state.FORMAT + 1
    with pytest.raises(StateUnreadable, match=f"state format {runtime_state.FORMAT + 1}.*upgrade"):
        PortfolioEngine.restore(spec("canary"), runtime_state.encode_state(engine.state), 0)


def test_a_new_portfolio_counts_from_its_first_event() -> None:
    engine = PortfolioEngine.fresh(spec("canary", first_seq=5))
    assert engine.state.account.processed == runtime_state.Processed(5)


def test_an_event_of_a_symbol_that_the_portfolio_does_not_have_is_not_counted() -> None:
    # Whether it is delivered depends on when the process was loaded last.
    chosen = spec("canary", symbols=["KO"])
    one, other = PortfolioEngine.fresh(chosen), PortfolioEngine.fresh(chosen)
    one.run(EVENTS, 0, 40)
    other.run([event for event in EVENTS if event.symbol == "KO"], 0, 40)
    assert one.state.account.processed == other.state.account.processed
    assert runtime_state.pack_state(one.state) == runtime_state.pack_state(other.state)
