from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from portfolios.runtime.events import decode_events, encode_event, encode_events, join_events, to_e4
from tests.support.market_factories import bar


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_joined_events_are_the_bytes_of_a_batch(count: int) -> None:
    events = [bar(1, "KO", "10", "11")] * count
    joined = join_events([encode_event(event) for event in events])
    assert joined == encode_events(events)
    assert decode_events(joined) == events


def test_prices_are_exact_decimals_of_four_places() -> None:
    event = bar(1, "KO", "25.6", "0.07")
    prices = [event.open, event.high, event.low, event.close]
    assert [str(price) for price in prices] == ["25.6000", "25.6000", "0.0700", "0.0700"]


def test_a_price_of_five_places_is_refused() -> None:
    assert to_e4(Decimal("1.0001")) == 10_001
    with pytest.raises(ValueError, match=r"price 1\.00001 has more than 4 decimal places"):
        to_e4("1.00001")


def test_bytes_that_are_not_events_are_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_events(b"\x92\x01\x02")
