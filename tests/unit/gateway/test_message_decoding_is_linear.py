"""Untrusted input is decoded in time linear in its size, not quadratic.

Eight times the input may take 24 times as long: 8 is linear, 64 is quadratic. The processor time of
this thread is measured, so that the load of the machine does not matter.
"""

from __future__ import annotations

import gc
import io
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from portfolios.validation import configuration_errors
from scheduling.api.parsers import StrictJSONParser
from scheduling.decide.reasons import plain
from scheduling.enact.commit_validation import validate_commit
from scheduling.gateway import message_decoding
from scheduling.gateway.http import RequestRejected
from scheduling.presentation.portfolio_body import PortfolioBody
from scheduling.wire import messages as wire

SMALL, TIMES = 500, 8
FAR_FROM_QUADRATIC = 24


def spent(work: Callable[[], Any]) -> float:
    """Return the least processor time of three runs, without the garbage collector, which would
    scan the objects of other tests."""

    def once() -> float:
        began = time.thread_time()
        work()
        return time.thread_time() - began

    gc.disable()
    try:
        return min(once() for _ in range(3))
    finally:
        gc.enable()


def hold_to_linear(of_size: Callable[[int], Callable[[], Any]]) -> None:
    small, large = spent(of_size(SMALL)), spent(of_size(SMALL * TIMES))
    assert large < FAR_FROM_QUADRATIC * small + 0.005, (small, large)


def parse(text: str) -> Any:
    return StrictJSONParser().parse(io.BytesIO(text.encode()))


def test_duplicate_key_is_found_in_linear_time() -> None:
    def of(size: int) -> Callable[[], Any]:
        names = [f'"n{number}": 1' for number in range(size)]
        text = "{" + ", ".join([*names, names[-1]]) + "}"

        def work() -> None:
            with pytest.raises(Exception, match="given twice"):
                parse(text)

        return work

    hold_to_linear(of)


@pytest.mark.parametrize(
    "body",
    [
        lambda size: {f"unknown{number}": 1 for number in range(size)},
        lambda size: {"symbols": [f"S{number}" for number in range(size)]},
        lambda size: {"symbols": ["S"] * size},
        lambda size: {"symbols": [1] * size},
        lambda size: {"config": {f"k{number}": [number] for number in range(size)}},
        lambda size: {"selector": {f"k{number}": "v" for number in range(size)}},
        lambda size: {"starting_cash": "9" * size},
        lambda size: {"name": "n" * size},
    ],
    ids=["unknown", "symbols", "same", "no texts", "config", "selector", "cash", "name"],
)
def test_portfolio_body_is_validated_in_linear_time(body: Callable[[int], dict[str, Any]]) -> None:
    def of(size: int) -> Callable[[], Any]:
        text = json.dumps(body(size))
        return lambda: PortfolioBody(data=parse(text)).is_valid()

    hold_to_linear(of)


@pytest.mark.parametrize(
    "given",
    [
        lambda size: ({"fast": 3, "slow": 8}, [f"S{number}" for number in range(size)], {}),
        lambda size: ({"fast": 3, "slow": 8}, ["IBM"] * size, {}),
        lambda size: ({f"k{number}": number for number in range(size)}, ["IBM"], {}),
        lambda size: ({}, ["IBM"], {f"k{number}": "1" for number in range(size)}),
    ],
    ids=["unknown symbols", "one symbol", "config", "limits"],
)
def test_configuration_is_checked_linearly(given: Callable[[int], tuple[Any, Any, Any]]) -> None:
    def of(size: int) -> Callable[[], Any]:
        config, symbols, limits = given(size)
        return lambda: configuration_errors("sma_cross", config, symbols, limits)

    hold_to_linear(of)


def commits_of(*portfolios: int, **given: Any) -> bytes:
    each = [
        {"portfolio": p, "epoch": 1, "from_seq": 0, "to_seq": 1, "batch": "x", **given}
        for p in portfolios
    ]
    return msgspec.msgpack.encode({"incarnation": str(uuid4()), "commits": each})


def test_commits_of_a_request_are_decoded_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the limit, which would end decoding before there is anything to measure."""
    monkeypatch.setattr(wire, "MAX_COMMITS", 10**9)

    def of(size: int) -> Callable[[], Any]:
        body = commits_of(*range(size), size - 1)

        def work() -> None:
            with pytest.raises(RequestRejected, match="occurs twice"):
                message_decoding.decode_commits(body)

        return work

    hold_to_linear(of)


def test_lines_of_a_commit_are_validated_in_linear_time() -> None:
    def of(size: int) -> Callable[[], Any]:
        orders = [
            wire.OrderLine(1, number, "IBM", "buy", "1", "1", "open", "", 1)
            for number in range(size)
        ]
        words = wire.Commit(
            portfolio=1, epoch=1, from_seq=0, to_seq=1, batch=str(uuid4()), orders=orders
        )
        return lambda: validate_commit(words)

    hold_to_linear(of)


@pytest.mark.parametrize(
    "reason",
    [
        lambda size: "a: a" + " is" * (size // 6) + " " + ", the reference run has " * (size // 48),
        lambda size: "a: row is missing, the reference run has " * (size // 40),
        lambda size: "a: row is ," + ", the reference run has none; " * (size // 30),
        lambda size: "1 portfolios on a have lagged by more than 1 s since 10:00: a" + ";" * size,
        lambda size: "pid 1 (" + ", user " * (size // 7),
        lambda size: "7" * size,
        lambda size: "1 portfolios are pending: " + "a, " * (size // 3),
        lambda size: "needs 1 places: no room on 1 nodes: " + "; " * (size // 2),
    ],
    ids=["differs", "missing", "none", "lags", "snapshot", "digits", "names", "places"],
)
def test_reason_is_translated_into_chinese_in_linear_time(
    reason: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the limit of its length, beyond which it is not read at all."""
    assert plain.in_chinese(long := "roll-out " + "1" * plain.MAX_TEXT) == long
    monkeypatch.setattr(plain, "MAX_TEXT", 10**9)
    hold_to_linear(lambda size: partial(plain.in_chinese, reason(size)))


def test_lines_over_the_limit_are_rejected_before_decoding() -> None:
    """17 MB of the shortest lines take a second to decode."""
    body = commits_of(1, orders=[[1, 1, "", "", "", "", "", "", 1]] * 500_000)

    def decode() -> None:
        with pytest.raises(RequestRejected, match="length <= 10000"):
            message_decoding.decode_commits(body)

    assert spent(decode) < spent(lambda: msgspec.msgpack.decode(body)) / 2


DENSE = [[1, 1, "", "", "", "", "", "", 1]] * 8_000


@pytest.mark.parametrize(
    "body",
    [
        lambda: commits_of(*range(200), orders=DENSE),
        lambda: commits_of(1, orders=DENSE * 200),
        lambda: commits_of(1, nobody_knows=DENSE * 200),
    ],
    ids=["many commits", "one commit", "a field that nobody knows"],
)
def test_large_body_is_rejected_without_decoding_its_lines(body: Callable[[], bytes]) -> None:
    large = body()
    assert len(large) > message_decoding.MAX_MULTI_COMMIT_BODY

    def decode() -> None:
        with pytest.raises(RequestRejected) as declined:
            message_decoding.decode_commits(large)
        assert declined.value.status == 413

    assert spent(decode) < spent(lambda: msgspec.msgpack.decode(large, type=msgspec.Raw)) / 10


def test_large_state_is_accepted() -> None:
    state = b"s" * (message_decoding.MAX_MULTI_COMMIT_BODY + 1)
    _, (one,) = message_decoding.decode_commits(commits_of(7, state=state))
    assert (one.portfolio, one.state) == (7, state)
    with pytest.raises(RequestRejected, match="holds a single commit"):
        message_decoding.decode_commits(commits_of(7, 8, state=state))
