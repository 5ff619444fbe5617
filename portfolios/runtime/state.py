"""The state of one portfolio between two events, and its bytes.

State = account part (the runtime's) + strategy part (the strategy's own, plain msgpack values).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec


class Position(msgspec.Struct):
    """What is held of one symbol. `cost` is kept, not an average, so that no rounding piles up."""

    quantity: Decimal  #: negative when short; a position of 0 is removed
    cost: Decimal  #: what the quantity cost, 4 places; has the sign of the quantity
    mark_e4: int  #: last price seen, in units of 0.0001

    @property
    def average_price(self) -> Decimal:
        """Return cost per piece, 4 places."""
        raise NotImplementedError


class OpenOrder(msgspec.Struct, frozen=True):
    """An order that waits for the next event of its symbol."""

    seq: int
    index: int
    symbol: str
    side: str  #: "buy" or "sell"
    quantity: Decimal
    price: Decimal  #: reference price at the decision

    @property
    def signed_quantity(self) -> Decimal:
        """Return the quantity, negative for a sale."""
        raise NotImplementedError


class Account(msgspec.Struct):
    """The runtime's part: money, holdings and open orders."""

    cash: Decimal
    starting_cash: Decimal
    realised: Decimal  #: profit of closed quantities; cash + costs = starting_cash + realised
    positions: dict[str, Position]
    open_orders: list[OpenOrder]
    equity_step: int  #: the last 10 s step that has an equity point; -1 before the first


class StrategyPart(msgspec.Struct):
    """The strategy's part, with what made it, so that another revision can adapt it."""

    strategy: str
    state_version: int
    parameters: dict[str, Any]
    data: dict[str, Any]


class State(msgspec.Struct):
    """Everything a portfolio needs to go on at last_seq + 1."""

    account: Account
    strategy: StrategyPart


def encode_state(state: State) -> bytes:
    """Return the state as msgpack under zstd level 1. The same state always gives the same bytes."""
    raise NotImplementedError


def decode_state(data: bytes) -> State:
    """Return the state. Raise StateUnreadable if the bytes are not one."""
    raise NotImplementedError


def account_view(state: State) -> dict[str, Any]:
    """Return the account for people: {cash, equity, pnl, realised, positions: [{symbol, quantity,
    average_price, price, unrealised}]}, every decimal as text with four places."""
    raise NotImplementedError


def strategy_view(state: State) -> dict[str, Any]:
    """Return the strategy's part as JSON values; bytes are shown as hex."""
    raise NotImplementedError
