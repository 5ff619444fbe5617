"""How long the watcher waits without a hint: the time limits without pushes rest on this."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import psycopg
import pytest
from django.db import DatabaseError

from ginkgo_site.database import conninfo
from ginkgo_site.deadline import Connection, ServerSilent, statement_limit
from scheduling import watcher as watching
from scheduling.db.transaction import execute
from scheduling.enact.pass_lock import acquire, record_watcher_seen
from scheduling.errors import SnapshotUnavailable
from scheduling.hint_relay import HintRelay
from scheduling.models import PassLock
from scheduling.scheduler import TickOutcome
from scheduling.watcher import (
    DEBOUNCE_S,
    FULL_TICK_COST_FACTOR,
    MAX_DEBOUNCE_S,
    MAX_TICK_INTERVAL_S,
    Watcher,
    _is_for_watcher,
)
from tests.support.factories import FakeNode, expire_lease, make_node, serving_since
from tests.support.patches import raising

pytestmark = pytest.mark.django_db


@pytest.fixture
def node() -> FakeNode:
    serving_since(3600)
    return make_node("node-1")


@pytest.fixture
def watcher(node: FakeNode) -> Watcher:
    return Watcher(30.0)


class Listening:
    """A listening connection: each look at it has the hints of one packet, or does this."""

    def __init__(self, *packets: Callable[[], Any] | list[str]) -> None:
        self.packets = list(packets)
        self.looks = 0

    def notifies(self, **_: Any) -> Iterator[Any]:
        self.looks += 1
        packet = self.packets.pop(0) if self.packets else []
        for payload in packet() or () if callable(packet) else packet:
            yield psycopg.Notify("ginkgo", payload, 1)


class Ticks:
    """A scheduler that notes what it was asked for, takes its time and answers this."""

    def __init__(self) -> None:
        self.asked: list[tuple[bool, bool]] = []
        self.outcome = TickOutcome(ran=True)
        self.now = 1000.0
        self.took_s = 0.0

    def monotonic(self) -> float:
        return self.now

    def tick(self, *, rebalance: bool, full: bool) -> TickOutcome:
        self.asked.append((rebalance, full))
        self.now += self.took_s
        return self.outcome


@pytest.fixture
def ticks(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> Ticks:
    """Let the clock of the watcher stand, except for what its ticks take."""
    ticks = Ticks()
    monkeypatch.setattr(watcher.scheduler, "tick", ticks.tick)
    monkeypatch.setattr(watching, "time", ticks)
    return ticks


def woken(watcher: Watcher) -> bool:
    """Let its time be over; return whether a rebalance is due."""
    watcher._wait_s = 0.0
    return watcher._sleep(Listening())  # type: ignore[arg-type]


# --- until when ----------------------------------------------------------------------------------


def test_the_watcher_waits_at_most_a_second_between_ticks(watcher: Watcher) -> None:
    watcher._tick(False)
    assert watcher._wait_s == MAX_TICK_INTERVAL_S == 1.0


def test_every_tick_records_that_the_watcher_is_alive(watcher: Watcher) -> None:
    """Where none does, nobody is told that passes stand."""
    watcher._tick(False)
    assert PassLock.objects.get(name="watcher").holder == watcher.scheduler.holder


def test_the_watcher_checks_again_when_the_next_lease_ends(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MAX_TICK_INTERVAL_S", 3600.0)
    watcher._tick(False)
    assert 0 < watcher._wait_s <= 30.005  # the lease that node-1 has just taken
    assert 0 < watcher._lease_ends - time.monotonic() <= 30


def test_watcher_does_not_wait_again_for_a_lease_that_has_expired(
    watcher: Watcher, node: FakeNode, ticks: Ticks
) -> None:
    """Its node may be alive on paper for long: while the gateway was away nobody is judged."""
    expire_lease(node)
    watcher._tick(False)
    assert watcher._wait_s == MAX_TICK_INTERVAL_S
    ticks.now += MAX_TICK_INTERVAL_S
    watcher._tick(False)
    assert [whole for _, whole in ticks.asked] == [True, True]


def test_the_watcher_retries_soon_while_another_pass_is_under_way(watcher: Watcher) -> None:
    assert execute(acquire("another"))
    watcher._tick(False)
    assert watcher._wait_s == 0.1


def test_full_tick_and_rebalance_delayed_by_another_pass_are_done_after_that_pass(
    watcher: Watcher, ticks: Ticks
) -> None:
    ticks.outcome = TickOutcome(ran=False)
    watcher._tick(woken(watcher))
    ticks.outcome = TickOutcome(ran=True)
    watcher._tick(woken(watcher))
    watcher._tick(woken(watcher))
    assert ticks.asked == [(True, True), (True, True), (False, False)]


def test_a_tick_without_a_rebalance_does_not_postpone_the_next_rebalance(
    watcher: Watcher, ticks: Ticks
) -> None:
    watcher._tick(False)
    assert woken(watcher) is True


@pytest.mark.parametrize(("cause", "rest_s"), [("rebalance", MAX_TICK_INTERVAL_S), ("drain", 30.0)])
def test_a_rebalance_follows_after_a_second_only_while_one_moves_portfolios(
    watcher: Watcher, ticks: Ticks, cause: str, rest_s: float
) -> None:
    plan = SimpleNamespace(move=(SimpleNamespace(cause=cause),))
    balanced: Any = SimpleNamespace(plan=plan)
    ticks.outcome = TickOutcome(ran=True, balance=balanced)
    watcher._tick(True)
    ticks.now += rest_s - 0.01
    assert woken(watcher) is False
    ticks.now += 0.01
    assert woken(watcher) is True


@pytest.mark.parametrize(
    ("took_s", "rest_s", "whole_s"),
    [
        (0.001, DEBOUNCE_S, MAX_TICK_INTERVAL_S),
        (0.1, 0.1, 1.0),
        (0.4, MAX_DEBOUNCE_S, 0.4 + FULL_TICK_COST_FACTOR * 0.4),
    ],
)
def test_slow_ticks_gather_hints_for_longer_and_make_full_ticks_rarer(
    watcher: Watcher, ticks: Ticks, took_s: float, rest_s: float, whole_s: float
) -> None:
    ticks.took_s, began = took_s, ticks.now
    watcher._tick(False)
    assert watcher._debounce_s == pytest.approx(rest_s)
    assert watcher._next_full_tick - began == pytest.approx(whole_s)


def test_a_watcher_that_is_asked_to_end_does_not_wait_for_its_next_check(watcher: Watcher) -> None:
    watcher._wait_s = 60.0
    listening = Listening(watcher.end)
    watcher._sleep(listening)  # type: ignore[arg-type]
    assert listening.looks == 1


# --- hints ---------------------------------------------------------------------------------------

WAKE = '{"groups": ["watcher", "board"], "message": {"type": "wake"}}'
DESIRED = '{"groups": ["node.1"], "message": {"type": "desired.changed", "version": 7}}'


class Redis:
    """A channel layer that notes what it is given, and breaks at the first."""

    def __init__(self, expected: int) -> None:
        self.given: list[tuple[str, str]] = []
        self.expected, self.complete = expected, threading.Event()

    async def group_send(self, group: str, message: Any) -> None:
        self.given.append((group, message["type"]))
        if len(self.given) == self.expected:
            self.complete.set()
        if len(self.given) == 1:
            raise OSError("a moment away")


def test_with_redis_the_watcher_relays_every_hint_despite_malformed_ones(watcher: Watcher) -> None:
    desired, wake = [("node.1", "desired.changed")], [("watcher", "wake"), ("board", "wake")]
    expected = [*desired, *desired, *wake, *desired, *wake]
    redis = Redis(len(expected))
    watcher._relay = HintRelay(redis)
    watcher._wait_s = 60.0
    # The first two wake nobody here; what comes in the rest after a wake goes on, too.
    packets = [DESIRED, "nonsense", DESIRED], [WAKE], [DESIRED, WAKE]
    watcher._sleep(Listening(*packets))  # type: ignore[arg-type]
    assert redis.complete.wait(30)
    assert redis.given == expected


def test_a_burst_of_hints_causes_one_tick(watcher: Watcher) -> None:
    listening = Listening([WAKE], [WAKE, WAKE])
    watcher._wait_s = 60.0
    watcher._sleep(listening)  # type: ignore[arg-type]
    assert (listening.looks, listening.packets) == (2, [])


# --- a database that is away ---------------------------------------------------------------------


def test_a_listening_session_that_falls_silent_is_given_up(watcher: Watcher) -> None:
    with Connection.connect(conninfo(), autocommit=True) as listening:
        listening.execute(watcher._echo.listen)
        watcher._send_echo(listening)
        (echo,) = listening.notifies(timeout=60, stop_after=1)
        assert watcher._receive(echo) is False
        watcher._next_echo = 0.0
        session = psutil.Process(listening.info.backend_pid)
        os.kill(session.pid, signal.SIGSTOP)
        try:
            with statement_limit(0.5), pytest.raises(ServerSilent):
                watcher._send_echo(listening)
        finally:
            os.kill(session.pid, signal.SIGCONT)
            psutil.wait_procs([session], timeout=60)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count how often the connection is given up; the test's own stays."""
    closed: list[str] = []
    given_up = SimpleNamespace(close=lambda: closed.append("closed"))
    monkeypatch.setattr(watching, "connection", given_up)
    return closed


AWAY = [
    psycopg.OperationalError("the server closed the connection"),
    DatabaseError("the server closed the connection"),
    SnapshotUnavailable("the fleet could not be read"),
    psycopg.OperationalError(),  # some errors have no text
]


@pytest.mark.parametrize("error", AWAY, ids=repr)
def test_a_database_that_is_away_is_waited_for_on_a_new_connection(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch, closed: list[str], error: Exception
) -> None:
    monkeypatch.setattr(watching, "RETRY_S", 0.0)
    ticks: list[str] = []

    def tick(rebalance: bool) -> None:
        ticks.append("tick")
        if len(ticks) == 1:
            raise error
        watcher.end()

    monkeypatch.setattr(watcher, "_tick", tick)
    execute(record_watcher_seen(watcher.scheduler.holder))
    watcher.watch()
    assert (len(ticks), len(closed)) == (2, 1)
    assert PassLock.objects.get(name="watcher").holder == ""  # it left in order


@pytest.mark.parametrize("error", AWAY[:2], ids=lambda error: type(error).__name__)
def test_error_of_a_lost_database_does_not_replace_the_first_error_of_a_tick(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch, closed: list[str], error: Exception
) -> None:
    monkeypatch.setattr(watcher.scheduler, "tick", raising(SnapshotUnavailable("the cause")))
    monkeypatch.setattr(watcher.scheduler, "raise_alerts", raising(error))
    with pytest.raises(SnapshotUnavailable, match="the cause"):
        watcher._tick(False)
    assert closed == ["closed"]


@pytest.mark.parametrize("error", AWAY[:2], ids=lambda error: type(error).__name__)
def test_a_database_lost_during_a_forecast_is_raised_to_the_watcher(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(watcher.node_losses, "refresh", raising(error))
    with pytest.raises(type(error)):
        watcher._tick(False)


def test_ticks_are_full_once_a_second_but_not_at_the_end_of_a_lease(
    watcher: Watcher, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_refresh_node_losses", lambda: None)
    watcher._tick(rebalance=False)
    watcher._tick(rebalance=False)
    watcher._next_full_tick = ticks.now - 0.01
    watcher._lease_ends = ticks.now - 0.001
    watcher._tick(rebalance=False)
    watcher._tick(rebalance=False)
    assert [full for _, full in ticks.asked] == [True, False, False, True]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_hint_for_the_watcher_wakes_it_whatever_other_hints_come_with_it(
    watcher: Watcher, order: tuple[int, int]
) -> None:
    hints = ('{"groups": ["watcher"], "message": {}}', '{"groups": ["node.1"], "message": {}}')
    watcher._wait_s = 60.0
    began = time.monotonic()
    watcher._sleep(Listening([hints[n] for n in order]))  # type: ignore[arg-type]
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("payload", ["", "nonsense", "[]", "1", '{"groups": ["node.1"]}'])
def test_a_notification_that_is_not_a_hint_wakes_no_watcher(payload: str) -> None:
    assert _is_for_watcher(payload) is False
