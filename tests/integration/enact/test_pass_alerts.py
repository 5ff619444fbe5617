"""Alerts about passes that do not run, and watchers that are gone."""

from __future__ import annotations

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
from tests.support.alerts import compare, count_audit_lines, is_open, tick
from tests.support.factories import ago, serving_since
from tests.support.patches import raising

pytestmark = pytest.mark.django_db


def set_times(pass_ago: float, watcher_since: float, watcher_until: float) -> None:
    """Let the last pass and the watcher's registration be of these times before now."""
    execute(acquire("x"))
    execute(record_watcher_seen("w"))
    PassLock.objects.filter(name="pass").update(failover_ran_at=ago(pass_ago))
    watcher = PassLock.objects.filter(name="watcher")
    watcher.update(since=ago(watcher_since), until=ago(-watcher_until))


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
    assert (alert.kind, count_audit_lines()) == ("no_watcher", 1)
    assert "limit 10 s: a lost node waits for the next pass of a worker" in alert.reason
    execute(record_watcher_seen("w2"))
    assert compare() == [("alert_closed", "no_watcher")]


#: Seconds since the last pass, the watcher's begin and its end, and for which the web has served;
#: who left in order; and what the alert says, "" without one.
ENDS: dict[str, tuple[float, float, float, float, tuple[str, ...], str]] = {
    "it may come back": (20, 60, 4, 60, (), ""),
    "the web has just come": (20, 60, 60, 9, (), ""),
    "no worker runs either": (70, 90, 65, 3600, (), "nothing fails over"),
    "everything crashed just now": (200, 300, 195, 29, (), ""),
    "everything crashed": (200, 300, 195, 31, (), "limit 30 s: no worker runs passes either"),
    # A stop in order, in which web processes serve longer, does not raise the alert.
    "it left in order": (20, 60, 65, 3600, ("another", "w"), ""),
    "it left long ago": (200, 300, 121, 121, ("w",), "limit 120 s: no worker runs passes either"),
    "another one left": (20, 60, 6, 60, ("another",), "limit 10 s"),
}


@pytest.mark.parametrize("end", ENDS)
def test_missing_watcher_opens_an_alert_unless_it_may_still_return(end: str) -> None:
    pass_ago, since, until, served, left, cause = ENDS[end]
    set_times(pass_ago, since, -until)
    for name in left:
        execute(record_watcher_left(name))
    serving_since(served)
    assert is_open(*["no_watcher"] * bool(cause), after=look)
    assert all(cause in reason for reason in Alert.objects.values_list("reason", flat=True))


def test_no_watcher_alert_opens_if_no_watcher_ever_ran() -> None:
    serving_since(60)
    assert is_open(after=look)


def test_only_a_complete_tick_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    tick()
    ran_at = PassLock.objects.get(name="pass").failover_ran_at
    assert ran_at is not None and ran_at > ago(5)
    PassLock.objects.update(failover_ran_at=ago(60))
    monkeypatch.setattr("scheduling.scheduler.balance", raising(ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        tick()
    assert PassLock.objects.filter(name="pass", failover_ran_at__lt=ago(59)).exists()


def test_watcher_whose_passes_fail_opens_the_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    set_times(11, 60, 4)
    PassLock.objects.filter(name="pass").update(until=ago(1))
    monkeypatch.setattr("scheduling.scheduler.balance", raising(ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        Watcher(30.0)._tick(True)
    assert is_open("passes_stand")


def test_watcher_that_never_gets_the_pass_lock_opens_the_alert() -> None:
    set_times(11, 60, 4)
    Watcher(30.0)._tick(True)
    assert is_open("passes_stand")


def test_time_since_when_a_watcher_lives_restarts_after_a_gap() -> None:
    execute(record_watcher_seen("w"))
    PassLock.objects.filter(name="watcher").update(since=ago(60), until=ago(-2))
    execute(record_watcher_seen("w2"))
    assert PassLock.objects.filter(name="watcher", since__lt=ago(59)).exists()
    PassLock.objects.filter(name="watcher").update(until=ago(1))
    execute(record_watcher_seen("w"))
    assert PassLock.objects.filter(name="watcher", since__gt=ago(5)).exists()
