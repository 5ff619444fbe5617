"""Verifications that end at their time limit, and those that the schedule asks for."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from portfolios.models import Order, Portfolio
from scheduling import tasks
from scheduling.db.transaction import execute
from scheduling.models import Alert, Verification, VerificationAnchor
from scheduling.retention import delete_rows
from scheduling.verification import background
from scheduling.verification.queue import claim
from scheduling.verification.runner import run_waiting
from scheduling.verification.verify import verify_portfolio
from tests.support.api_client import ApiClient
from tests.support.factories import FakeNode, ago, make_portfolio, make_running_portfolio, tick
from tests.support.verified_trader import NAME, update_row

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each runner is added that would be started."""
    found: list[int] = []
    monkeypatch.setattr(background, "start_runner", lambda: found.append(1))
    return found


def open_alerts() -> list[str]:
    """Run a pass. Return the reasons of the open alerts about differences."""
    tick()
    found = Alert.objects.filter(kind="verification_differs", closed_at__isnull=True)
    return list(found.values_list("reason", flat=True))


def test_a_verification_ends_at_its_time_limit_and_the_next_continues_from_there(
    anchored: Portfolio, monkeypatch: pytest.MonkeyPatch
) -> None:
    VerificationAnchor.objects.all().delete()
    monkeypatch.setattr("portfolios.verify.verify.WINDOW", 3_000)
    reached = []
    for _ in range(3):
        verdict = verify_portfolio(NAME, limit_s=0.0)
        assert verdict.identical
        reached.append(verdict.compared.to_seq - anchored.first_seq + 1)
    assert reached == [3_000, 6_000, 8_000]
    assert verdict.compared.state_digest is not None
    assert verify_portfolio(NAME, full=True).compared.counts == verdict.compared.counts


def test_portfolio_with_commits_not_verified_for_an_interval_is_verified_by_the_schedule(
    anchored: Portfolio, node: FakeNode, started: list[int]
) -> None:
    make_portfolio("idle")  # has committed nothing
    make_running_portfolio("canary", node, events=100)
    assert node.commit(NAME, 500) == "ok"
    assert tasks.verify_in_background() == "0 requested"  # they are not older than an interval
    Portfolio.objects.update(created_at=ago(4_000))
    assert tasks.verify_in_background() == "2 requested"
    assert tasks.verify_in_background() == "0 requested"
    assert started == [1]
    asked = Verification.objects.get(portfolio=anchored)
    assert (asked.requested_by, asked.limit_s, asked.full) == ("schedule", 60.0, False)
    assert run_waiting() == 2
    assert set(Verification.objects.values_list("state", flat=True)) == {"identical"}
    assert tasks.verify_in_background() == "0 requested"
    Verification.objects.update(requested_at=ago(4_000))
    assert tasks.verify_in_background() == "0 requested"  # nothing is new
    assert node.commit(NAME, 10) == "ok"
    assert tasks.verify_in_background() == "1 requested"


def test_requested_verifications_go_before_scheduled_ones_and_interval_0_schedules_none(
    anchored: Portfolio, node: FakeNode, operator: ApiClient, settings: Any
) -> None:
    assert node.commit(NAME, 10) == "ok"
    every = settings.GINKGO
    settings.GINKGO = replace(every, verify_interval_s=0.0)
    assert tasks.verify_in_background() == "0 requested"
    settings.GINKGO = every
    Portfolio.objects.update(created_at=ago(4_000))
    assert tasks.verify_in_background() == "1 requested"
    make_portfolio("two")
    operator.post("portfolios/two/verification/")
    first = execute(claim(uuid4(), 9))
    assert first is not None and first.name == "two"
    # Who asks for what the schedule asked for, and nobody took yet, has it.
    asked = operator.post(f"portfolios/{NAME}/verification/", {"full": True})
    assert (asked.status_code, asked.json()["requested_by"]) == (202, "olive")
    second = execute(claim(uuid4(), 9))
    assert second is not None and (second.name, second.full, second.limit_s) == (NAME, True, None)


def test_a_difference_that_the_schedule_finds_is_an_alert_until_it_is_gone(
    anchored: Portfolio, node: FakeNode
) -> None:
    assert node.commit(NAME, 500) == "ok"
    Portfolio.objects.update(created_at=ago(4_000))
    order = Order.objects.filter(portfolio=anchored).earliest("seq")
    update_row(order, price=order.price + 1)
    tasks.verify_in_background()
    assert run_waiting() == 1
    (reason,) = open_alerts()
    assert reason.startswith(f"its verification is different at seq {order.seq}: ")
    update_row(order, price=order.price)
    Verification.objects.update(requested_at=ago(4_000))
    tasks.verify_in_background()
    assert open_alerts() == [reason]  # not yet
    assert run_waiting() == 1
    assert open_alerts() == []


def test_a_verification_that_fails_or_ends_before_the_difference_keeps_the_alert_open(
    anchored: Portfolio, node: FakeNode
) -> None:
    order = Order.objects.filter(portfolio=anchored).latest("seq")
    update_row(order, price=order.price + 1)
    node.commit(NAME, 100)
    Portfolio.objects.update(created_at=ago(4_000))
    tasks.verify_in_background()
    assert run_waiting() == 1
    different = Verification.objects.get(state="different")
    assert open_alerts()
    later = {"portfolio": anchored, "requested_at": ago(0), "finished_at": ago(0)}
    Verification.objects.create(state="identical", to_seq=order.seq - 1, **later)
    assert open_alerts()
    for _ in range(25):
        Verification.objects.create(state="failed", **later)
    delete_rows(time.monotonic() + 10)
    assert open_alerts()
    Verification.objects.create(state="identical", to_seq=different.to_seq, **later)
    assert not open_alerts()
