"""Helpers of the tests of alerts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scheduling.db.transaction import execute
from scheduling.enact import alerts
from scheduling.models import Alert, Event, Gateway
from scheduling.scheduler import Scheduler
from scheduling.timing import timing
from tests.support.factories import ago


def keep_gateway_alive() -> None:
    """Let every gateway have pulsed just now: on a busy machine the pulse of a fixture is old."""
    Gateway.objects.update(pulsed_at=ago(0))


def tick() -> Any:
    """Run one pass. Return its outcome."""
    keep_gateway_alive()
    return Scheduler("test").tick()


def compare() -> list[tuple[str, str]]:
    """Update the alerts from their causes. Return (what happened, alert kind) of each change."""
    return [(row.what, row.kind) for row in execute(alerts.update_alerts(timing()))]


def is_open(*kinds: str, after: Callable[[], Any] = lambda: None) -> bool:
    """Call `after`. Return whether the kinds of the open alerts are then exactly `kinds`."""
    after()
    found = Alert.objects.filter(closed_at=None).values_list("kind", flat=True)
    return sorted(found) == sorted(kinds)


def open_alerts() -> dict[str, str]:
    """Update the alerts from their causes. Return kind → reason of the open ones.

    Assert that no two of them have one kind.
    """
    keep_gateway_alive()
    compare()
    found = Alert.objects.filter(closed_at=None).values_list("kind", "reason")
    assert len(dict(found)) == len(found), list(found)
    return dict(found)


def count_audit_lines(kind: str = "alert_opened") -> int:
    """Return how many lines of the audit log are of this kind."""
    return Event.objects.filter(kind=kind).count()
