"""Code of strategies from outside never runs in the process that answers requests."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest

from portfolios import strategy_inspection
from portfolios.models import Portfolio, Revision
from portfolios.strategies import registry
from tests.support.api_client import ApiClient
from tests.support.patches import note_calls, raising

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("foreign_strategies")]

NAME = "misbehaving_in_check"


@pytest.fixture
def foreign_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GINKGO_STRATEGIES", "chaos.faults.faulty_strategies")
    monkeypatch.setenv("GINKGO_SECRET_KEY", "of the web process")
    strategy_inspection._check_in_process.cache_clear()


def a_body(**config: object) -> dict[str, object]:
    return {"name": "p", "strategy": NAME, "config": config, "symbols": ["IBM"]}


def test_check_runs_in_another_process_without_privileges_and_secrets() -> None:
    (reported,) = strategy_inspection.parameter_errors(NAME, {"action": "report"}, ["IBM"])
    pid, uid, secret = reported.message.split()
    assert int(pid) != os.getpid()
    assert int(uid) != 0
    assert secret == "-"
    assert strategy_inspection.facts(NAME) == strategy_inspection.Facts(
        version=7, sees_every_symbol=False
    )


@pytest.mark.parametrize(
    ("action", "limit_s", "message"),
    [
        ("loop", 100.0, "its process was ended by SIGXCPU"),
        ("sleep", 4.0, "did not answer within 4 s and was killed"),
        ("raise", 100.0, "KeyError: 'fast'"),
        ("allocate", 100.0, "MemoryError"),
    ],
)
def test_endless_or_failing_check_is_killed_and_reported(
    operator: ApiClient,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    action: str,
    limit_s: float,
    message: str,
) -> None:
    monkeypatch.setattr(strategy_inspection, "LIMIT_S", limit_s)
    settings.GINKGO = replace(settings.GINKGO, child_memory_mb=400)
    began = time.monotonic()
    answer = operator.post("portfolios/", a_body(action=action, seconds=600))
    assert time.monotonic() - began < 90  # the limit, and the time that a busy machine needs
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert (error["field"], error["code"]) == ("config", "check_failed")
    assert message in error["message"]


def test_changed_configuration_is_checked_by_the_strategy_before_rows_are_locked(
    operator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert operator.post("portfolios/", a_body(action="nothing")).status_code == 201
    assert Revision.objects.get().strategy_version == 7
    asked = note_calls(monkeypatch, strategy_inspection, "replay_process")
    change = {"config": {"action": "nothing", "seconds": 1}}
    assert operator.patch("portfolios/p/", change).status_code == 202
    assert len(asked) == 1  # its answer is used again under the lock
    never = raising(AssertionError("it was locked"))
    monkeypatch.setattr("scheduling.operations.portfolios.locked_portfolio", never)
    answer = operator.patch("portfolios/p/", {"config": {"action": "raise"}})
    assert answer.status_code == 400
    assert Portfolio.objects.get().revision == 2


def test_built_in_strategies_are_checked_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    never = raising(AssertionError("a process was asked"))
    monkeypatch.setattr(strategy_inspection, "replay_process", never)
    (wrong,) = strategy_inspection.parameter_errors("sma_cross", {"fast": 9, "slow": 3}, ["IBM"])
    assert wrong.code == "conflict"
    began = time.process_time()
    for _ in range(1000):
        strategy_inspection.parameter_errors("sma_cross", {}, ["IBM"])
    assert time.process_time() - began < 1


def test_unknown_strategy_is_reported_with_the_known_names() -> None:
    with pytest.raises(registry.UnknownStrategy, match="looper"):
        strategy_inspection.parameter_errors("nonesuch", {}, [])
