"""Stored states as pages show them."""

from __future__ import annotations

from decimal import Decimal
from math import inf

import msgspec
import pytest
from msgspec.structs import replace

from portfolios.runtime import state as runtime_state
from portfolios.runtime.state import Account, Position, State, StrategyPart, encode_state
from scheduling.observe.stored_state import UNKNOWN_ACCOUNT, OnDemand, stored_state
from tests.support.hostile_states import HOSTILE_STATES


def trader() -> State:
    # 99,000 in cash and 10 pieces at 101.0000: equity 100,010, profit 10
    positions = {"XOM": Position(Decimal(10), Decimal("1000.0000"), 1_010_000)}
    account = Account(Decimal(99_000), Decimal(100_000), Decimal(0), positions, [], 1)
    return State(account, StrategyPart("sma_cross", 1, {}, {"closes": {"XOM": [1, 2]}}))


def test_stored_state_has_equity_and_profit_and_computes_the_rest_on_demand():
    account, strategy = stored_state(encode_state(trader()))
    assert (account["equity"], account["pnl"]) == (Decimal(100_010), Decimal(10))
    assert [position["symbol"] for position in account["positions"]] == ["XOM"]
    assert account["drawdown_pct"] == 0
    assert dict(strategy) == {"closes": {"XOM": [1, 2]}}
    assert account.get("nothing") is None


def test_equity_of_a_stored_state_is_read_without_computing_the_rest():
    computed = []
    account = OnDemand({"equity": 1}, lambda: computed.append("all") or {"equity": 1, "fees": 2})
    assert account
    assert account["equity"] == 1
    assert not computed
    assert account["fees"] == 2
    assert dict(account) == {"equity": 1, "fees": 2}
    assert len(account) == 2
    assert computed == ["all"]


def test_stored_state_shows_only_valid_metrics():
    found = {"spread": 0.5, "Not a name": 1.0, "endless": inf, "x" * 65: 1.0}
    many = {f"m{number}": float(number) for number in range(40)}
    account, _ = stored_state(encode_state(replace(trader(), metrics=found | many)))
    assert account["metrics"] == {"spread": 0.5} | {f"m{n}": n for n in range(31)}  # 32 in all
    assert dict(account)["metrics"] == account["metrics"]


def test_unreadable_state_is_unknown_and_not_zero():
    newer = replace(trader(), format=runtime_state.FORMAT + 1)
    for data in (b"", b"not a state", encode_state(newer)):
        account, strategy = stored_state(data)
        assert account == UNKNOWN_ACCOUNT
        assert not strategy


@pytest.mark.parametrize("data", HOSTILE_STATES.values(), ids=HOSTILE_STATES)
def test_a_state_that_a_node_made_up_is_unknown_where_it_cannot_be_shown(data: bytes) -> None:
    account, strategy = stored_state(data)
    assert account["equity"] is None or account["equity"] == Decimal(100_010)
    assert account["positions"] == []
    assert not dict(strategy)


def test_stored_account_with_an_amount_too_long_for_a_column_is_unknown() -> None:
    account = trader().account
    for cash in (Decimal(10**20) - Decimal("2000.0001"), Decimal(10**20)):
        data = encode_state(replace(trader(), account=replace(account, cash=cash)))
        shown, _ = stored_state(data)
        if cash < 10**20:
            assert (shown["cash"], shown["equity"]) == (cash, cash + 1010)
            assert [position["symbol"] for position in shown["positions"]] == ["XOM"]
        else:
            assert shown == UNKNOWN_ACCOUNT


def test_a_small_state_that_unpacks_to_endless_positions_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encode_state(trader())
    size = len(msgspec.msgpack.encode(trader().account))
    monkeypatch.setattr(runtime_state, "MAX_OUTLINE_BYTES", size + 1)  # an empty map of metrics
    assert stored_state(data)[0]["equity"] == Decimal(100_010)
    monkeypatch.setattr(runtime_state, "MAX_OUTLINE_BYTES", size)
    assert stored_state(data)[0] == UNKNOWN_ACCOUNT
