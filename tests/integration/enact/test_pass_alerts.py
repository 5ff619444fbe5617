"""Alerts about passes that do not run, and watchers that are gone."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.db.transaction import execute
from scheduling.dead_mans_switch import look
from scheduling.enact.pass_lock import (
    acquire,
    record_pass,
    record_watcher_left,
    record_watcher_seen,
)
from scheduling.models import Alert, PassLock
from scheduling.watcher import Watcher
from tests.support.alerts import compare, is_open, tick, told
from tests.support.factories import ago, serving_since

pytestmark = pytest.mark.django_db


def set_times(pass_ago: float, watcher_since: float, watcher_until: float) -> None:
    """Let the last pass and the watcher's registration be of these times before now."""
    execute(acquire("x"))
    execute(record_watcher_seen("w"))
    PassLock.objects.filter(name="pass").update(failover_ran_at=ago(pass_ago))
    PassLock.objects.filter(name="watcher").update(
        since=ago(watcher_since), until=ago(-watcher_until)
    )


def test_missing_pass_beside_a_live_watcher_opens_an_alert() -> None:
    set_times(11, 60, 4)
    assert compare() == [("alert_opened", "passes_stand")]
    execute(record_pass())
    assert compare() == [("alert_closed", "passes_stand")]


@pytest.mark.parametrize(
    ("pass_ago", "since", "until"),
    [(9, 60, 4), (60, 60, -1), (60, 5, 4)],
    ids=["it ran", "no watcher lives", "the watcher has just come"],
)
def test_missing_pass_without_a_live_watcher_opens_no_alert(
    pass_ago: float, since: float, until: float
) -> None:
    set_times(pass_ago, since, until)
    assert compare() == []


def test_missing_watcher_opens_one_alert_however_many_web_processes_check() -> None:
    set_times(pass_ago=20, watcher_since=60, watcher_until=-6)
    serving_since(60)
    look()
    look()
    alert = Alert.objects.get()
    assert (alert.kind, told()) == ("no_watcher", 1)
    assert "limit 10 s: a lost node waits for the next pass of a worker" in alert.reason
    execute(record_watcher_seen("w2"))
    assert compare() == [("alert_closed", "no_watcher")]


def test_alert_of_a_watcher_that_is_gone_says_that_no_worker_runs_either() -> None:
    set_times(pass_ago=70, watcher_since=90, watcher_until=-65)
    serving_since(3600)
    look()
    assert "nothing fails over" in Alert.objects.get(kind="no_watcher").reason


@pytest.mark.parametrize(
    ("until", "served"), [(-4, 60), (-60, 9)], ids=["it may come back", "the web has just come"]
)
def test_no_watcher_alert_opens_while_the_watcher_may_still_return(
    until: float, served: float
) -> None:
    set_times(pass_ago=20, watcher_since=60, watcher_until=until)
    serving_since(served)
    look()
    assert is_open()


def test_a_watcher_that_is_missing_since_everything_crashed_has_half_a_minute_to_start() -> None:
    set_times(pass_ago=200, watcher_since=300, watcher_until=-195)
    serving_since(29)  # it looked before any web process served
    look()
    assert is_open()
    serving_since(31)
    look()
    assert is_open("no_watcher")
    assert "limit 30 s: no worker runs passes either" in Alert.objects.get().reason


def test_a_watcher_that_left_in_order_has_two_minutes() -> None:
    """So a stop in order, in which web processes serve longer, does not raise the alert."""
    set_times(pass_ago=20, watcher_since=60, watcher_until=-65)
    serving_since(3600)
    execute(record_watcher_left("another"))
    execute(record_watcher_left("w"))
    look()
    assert is_open()
    set_times(pass_ago=200, watcher_since=300, watcher_until=-121)
    execute(record_watcher_left("w"))
    serving_since(121)
    look()
    assert is_open("no_watcher")
    assert "limit 120 s: no worker runs passes either" in Alert.objects.get().reason


def test_a_watcher_that_is_gone_is_missing_though_another_one_left() -> None:
    set_times(pass_ago=20, watcher_since=60, watcher_until=-6)
    serving_since(60)
    execute(record_watcher_left("another"))
    look()
    assert is_open("no_watcher")


def test_no_watcher_alert_opens_if_no_watcher_ever_ran() -> None:
    serving_since(60)
    look()
    assert is_open()


def test_only_a_complete_tick_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    tick()
    ran_at = PassLock.objects.get(name="pass").failover_ran_at
    assert ran_at is not None and ran_at > ago(5)
    PassLock.objects.update(failover_ran_at=ago(60))
    monkeypatch.setattr("scheduling.scheduler.balance", _fail)
    with pytest.raises(ZeroDivisionError):
        tick()
    assert PassLock.objects.filter(name="pass", failover_ran_at__lt=ago(59)).exists()


def _fail(*_: Any) -> Any:
    raise ZeroDivisionError


def test_watcher_whose_passes_fail_opens_the_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    set_times(11, 60, 4)
    PassLock.objects.filter(name="pass").update(until=ago(1))
    monkeypatch.setattr("scheduling.scheduler.balance", _fail)
    with pytest.raises(ZeroDivisionError):
        Watcher(30.0)._tick(True)
    assert is_open("passes_stand")


def test_watcher_that_never_gets_the_pass_lock_opens_the_alert() -> None:
    set_times(11, 60, 4)
    Watcher(30.0)._tick(True)
    assert is_open("passes_stand")


def test_watcher_time_restarts_after_a_gap() -> None:
    execute(record_watcher_seen("w"))
    PassLock.objects.filter(name="watcher").update(since=ago(60), until=ago(-2))
    execute(record_watcher_seen("w2"))
    assert PassLock.objects.filter(name="watcher", since__lt=ago(59)).exists()
    PassLock.objects.filter(name="watcher").update(until=ago(1))
    execute(record_watcher_seen("w"))
    assert PassLock.objects.filter(name="watcher", since__gt=ago(5)).exists()
