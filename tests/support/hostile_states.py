"""States that no strategy makes, as a node with a token of its own may commit them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from portfolios.runtime import state as runtime_state

MARK = 1_234_567
SCALED = {"quantity": "10", "cost": "1000", "mark_e4": 1, "scale": 99}


def _packed(account: dict[str, Any], data: dict[str, Any] | None = None) -> bytes:
    """Return a packed state with these fields of the account, and `data` of the strategy."""
    positions = {"XOM": runtime_state.Position(Decimal(10), Decimal(1_000), 1_010_000)}
    whole = runtime_state.Account(Decimal(99_000), Decimal(100_000), Decimal(0), positions, [], 1)
    state = runtime_state.State(whole, runtime_state.StrategyPart("sma_cross", 1, {}, data or {}))
    document = msgspec.msgpack.decode(runtime_state.pack_state(state))
    document["account"] |= account
    return msgspec.msgpack.encode(document)


def _nested(levels: int) -> bytes:
    """Return a packed state whose strategy holds lists nested so deep."""
    number = msgspec.msgpack.encode(MARK)
    return _packed({}, {"x": MARK}).replace(number, b"\x91" * levels + b"\xc0")


HOSTILE_STATES = {
    "cash that is not a number": runtime_state.compress_state(_packed({"cash": "sNaN"})),
    "cash without end": runtime_state.compress_state(_packed({"cash": "Infinity"})),
    "cash of a million digits": runtime_state.compress_state(_packed({"cash": "1E+999999"})),
    "cash of thirty digits": runtime_state.compress_state(_packed({"cash": "1E+30"})),
    "a fee that is not a number": runtime_state.compress_state(_packed({"fees": "NaN"})),
    "prices of 99 places": runtime_state.compress_state(_packed({"positions": {"XOM": SCALED}})),
    "a thousand levels": runtime_state.compress_state(_nested(1_000)),
    "a hundred thousand levels": runtime_state.compress_state(_nested(100_000)),
    "no UTF-8": runtime_state.compress_state(
        _packed({"halted": "abcd"}).replace(b"abcd", b"\xff\xfe\xff\xfe")
    ),
}
