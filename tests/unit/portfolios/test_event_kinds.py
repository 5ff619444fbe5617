"""Kinds of events: bars stay as they were, byte for byte; others fill, mark and count as well."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.events import (
    Bar,
    Event,
    Gap,
    Quote,
    ScaledBar,
    Tick,
    Trade,
    decode_event,
    decode_events,
    encode_event,
    encode_events,
    join_events,
    make_bar,
    to_units,
)
from portfolios.runtime.state import account_view, decode_state, encode_state
from tests.support.market_factories import bar, buy, run, scripted, sell, spec

SECOND_US = 1_000_000
FOUR_PLACES = [bar(s, "KO" if s % 3 else "GE", f"{9 + s % 5}.25", "10") for s in range(1, 201)]
#: As of the release in which every event was a bar with four places.
BYTES = (
    "929901a24b4fce000f4240ce000f4240ce00019064ce00019064ce000186a0ce000186a064"
    "9902a24b4fce001e8480ce001e8480ce0001b774ce0001b774ce000186a0ce000186a064"
)


def euro(seq: int, first: int, high: int, low: int, last: int) -> Bar:
    return make_bar(seq, "EURUSD", seq, seq * SECOND_US, (first, high, low, last), 0, scale=5)


def quote(seq: int, bid: int, ask: int) -> Quote:
    return Quote(seq, "EURUSD", seq, seq * SECOND_US, bid, ask, 1, 1, 5)


KINDS: list[Event] = [
    FOUR_PLACES[0],
    euro(2, 107_083, 107_090, 107_001, 107_050),
    Trade(3, "BTCUSD", 3, 3, 6_500_012, 25, 2),
    quote(4, 107_083, 107_091),
    Tick(5, "", 5, 5),
    Gap(6, "KO", 6, 6, 1, 5),
]


def test_encoding_of_bars_with_four_decimal_places_is_unchanged() -> None:
    assert encode_events(FOUR_PLACES[:2]).hex() == BYTES
    assert type(make_bar(1, "KO", 1, 1, (1, 1, 1, 1), 1)) is Bar


def test_events_of_each_kind_are_read_back_as_they_were_alone_or_in_one_batch() -> None:
    assert [decode_event(encode_event(event)) for event in KINDS] == KINDS
    assert decode_events(encode_events(KINDS)) == KINDS
    assert [type(event) for event in decode_events(encode_events(KINDS))] == [
        Bar, ScaledBar, Trade, Quote, Tick, Gap,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "data", [msgspec.msgpack.encode([["book", 1, "KO", 1, 1]]), b"\x92\x01\x02"]
)
def test_bytes_of_an_unknown_kind_or_of_no_event_are_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_events(data)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_joining_encoded_events_gives_the_bytes_of_an_encoded_batch(count: int) -> None:
    events = [FOUR_PLACES[0]] * count
    joined = join_events([encode_event(event) for event in events])
    assert joined == encode_events(events)
    assert decode_events(joined) == events


def test_prices_are_exact_decimals_of_four_places() -> None:
    event = bar(1, "KO", "25.6", "0.07")
    prices = [event.open, event.high, event.low, event.close]
    assert [str(price) for price in prices] == ["25.6000", "25.6000", "0.0700", "0.0700"]
    assert to_units(Decimal("1.0001"), 4) == 10_001
    with pytest.raises(ValueError, match=r"price 1\.00001 has more than 4 decimal places"):
        to_units("1.00001", 4)


def test_prices_of_a_bar_with_five_places_are_exact() -> None:
    event = euro(1, 107_083, 107_090, 107_001, 107_050)
    assert [str(price) for price in (event.open, event.high, event.low, event.close)] == [
        "1.07083", "1.07090", "1.07001", "1.07050",
    ]  # fmt: skip
    assert event.close_e4 == 10_705
    with pytest.raises(ValueError, match=r"price 1\.07083 has more than 4 decimal places: use"):
        event.open_e4  # noqa: B018


def test_a_quote_acts_as_a_bar_from_its_bid_to_its_ask() -> None:
    event = quote(1, 107_083, 107_092)
    units = (event.open_units, event.high_units, event.low_units, event.close_units)
    assert units == (107_087, 107_092, 107_083, 107_087)  # (107083 + 107092) / 2, rounded down
    assert event.range_units("buy") == (107_092, 107_092)
    assert event.range_units("sell") == (107_083, 107_083)


def test_order_at_prices_of_five_decimal_places_is_decided_filled_and_marked_exactly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = scripted(monkeypatch, {1: [buy("EURUSD", "100")]}, symbols=["EURUSD"])
    result = run(
        engine,
        [euro(1, 107_083, 107_083, 107_083, 107_083), euro(2, 107_091, 107_099, 107_000, 107_017)],
    )
    assert str(result.orders[0].price) == "1.07083"
    assert str(result.fills[0].price) == "1.07091"
    # 1000 - 100 * 1.07091 = 892.909, and 100 * 1.07017 = 107.017
    state = decode_state(encode_state(engine.state))
    assert str(state.account.cash) == "892.9090"
    view = account_view(state)
    assert view["equity"] == "999.9260"
    assert view["positions"][0] == {
        "symbol": "EURUSD",
        "quantity": "100.0000",
        "average_price": "1.07091",
        "price": "1.07017",
        "unrealised": "-0.0740",
    }


def test_a_buyer_pays_the_ask_and_a_seller_gets_the_bid(monkeypatch: pytest.MonkeyPatch) -> None:
    script = {1: [buy("EURUSD", "10")], 2: [sell("EURUSD", "10")]}
    engine = scripted(monkeypatch, script, symbols=["EURUSD"])
    result = run(engine, [quote(seq, 107_000 + seq, 107_010 + seq) for seq in (1, 2, 3)])
    assert [str(fill.price) for fill in result.fills] == ["1.07012", "1.07003"]


def test_an_event_without_a_price_fills_and_marks_nothing_and_reaches_no_strategy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = scripted(monkeypatch, {1: [buy("KO", "1")]})
    silent: list[Event] = [Tick(2, "", 2, 2), Gap(3, "KO", 3, 3, 1, 2)]
    assert run(engine, [bar(1, "KO", "10", "10"), *silent]).fills == []
    assert engine.state.strategy.data["seen"] == [1]
    later = run(engine, [bar(4, "KO", "11", "12")])
    assert [str(fill.price) for fill in later.fills] == ["11.0000"]


def test_the_canary_counts_a_tick_as_an_event_and_not_as_a_gap() -> None:
    engine = PortfolioEngine.fresh(spec("canary"))
    run(engine, KINDS)
    data = engine.state.strategy.data
    assert (data["events"], data["gaps"], data["last_seq"]) == (6, 0, 6)
