"""Failpoints are off unless GINKGO_REHEARSAL is set; rules fire at named points, once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.test import override_settings

from ginkgo_site.checks import check_failpoints_are_off
from ginkgo_site.env import InvalidSetting, read_environment
from scheduling.db import failpoints
from scheduling.db.failpoints import ConnectionCut, FileRules, Point, Rules, parse_rules
from scheduling.db.transaction import Transaction, query
from scheduling.enact.audit_log import AUDIT
from scheduling.enact.node_reports import apply_report
from scheduling.enact.notify import bump_desired_versions
from scheduling.timing import Timing
from scheduling.wire import messages as wire
from tests.support.python_process import run_python


def test_no_failpoint_is_armed_by_default() -> None:
    assert read_environment({}).failpoints == ""
    assert failpoints.trace(bump_desired_versions([1])) is None


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"GINKGO_FAILPOINTS": "a.b:begin=exit"}, "GINKGO_REHEARSAL=1 allows it"),
        ({"GINKGO_FAILPOINTS": "@/tmp/points"}, "unset it"),
        ({"GINKGO_FAILPOINTS": "a.b:begin=explode", "GINKGO_REHEARSAL": "1"}, "[PROCESS/]POINT="),
        ({"GINKGO_FAILPOINTS": "nobody/a.b=exit", "GINKGO_REHEARSAL": "1"}, "not a failpoint"),
    ],
)
def test_refused_failpoint_setting_names_the_remedy(given: dict[str, str], remedy: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        read_environment(given)
    assert remedy in str(caught.value)


def test_deployment_check_rejects_rehearsal() -> None:
    assert check_failpoints_are_off() == []
    with override_settings(GINKGO=read_environment({"GINKGO_REHEARSAL": "1"})):
        assert django_settings.GINKGO.rehearsal
        assert [message.id for message in check_failpoints_are_off()] == ["ginkgo.E003"]


@contextmanager
def traced(steps: Transaction[Any]) -> Iterator[tuple[Any, list[Point]]]:
    """Yield the tracer of a transaction, and the points that it has reached."""
    seen: list[Point] = []
    with failpoints.hook_installed(lambda point: seen.append(point) or 0.0):
        tracer = failpoints.trace(steps)
        assert tracer is not None
        yield tracer, seen


def test_failpoint_after_a_statement_is_named_by_that_statement() -> None:
    def twice() -> Transaction[None]:
        yield from query(AUDIT)
        yield from query(AUDIT)

    with traced(steps := twice()) as (tracer, seen):
        tracer.pause_at_begin()
        for asked in steps:
            tracer.pause_after(asked.statement)
        tracer.pause_after_commit()
    names = [point.name.partition(":")[2] for point in seen]
    assert names == ["begin", "after_audit", "after_audit_2", "committed"]


def test_failpoint_name_has_the_module_and_function_of_its_transaction() -> None:
    with traced(steps := bump_desired_versions([1])) as (tracer, seen):
        tracer.pause_after(next(steps).statement)
    statement = ("scheduling.enact.notify", "bump_desired_versions", "TOUCH")
    assert seen == [Point("notify.bump_desired_versions:after_touch", statement)]


@pytest.mark.parametrize(
    ("report", "name"),
    [
        (wire.Prepared(handoff=1), "handoff.handle_prepared"),
        (wire.StepFailed(handoff=1, step="prepare", error="x"), "handoff.handle_step_failure"),
        (wire.Halted(portfolio=1, epoch=1, seq=1, age_s=9), "process_failures.handle_halt"),
    ],
)
def test_failpoint_in_a_report_is_named_after_its_step(report: wire.Report, name: str) -> None:
    with traced(apply_report(1, uuid4(), report, Timing())) as (tracer, seen):
        tracer.pause_at_begin()
    assert [point.name for point in seen] == [f"{name}:begin"]


def test_rule_fires_on_the_nth_visit_only() -> None:
    rules = Rules("a.b:*=error@3")
    assert [rules(Point("a.b:begin")), rules(Point("a.b:after_x"))] == [0.0, 0.0]
    with pytest.raises(ConnectionCut):
        rules(Point("a.b:begin"))
    assert rules(Point("a.b:begin")) == 0.0


def test_failpoint_rule_returns_its_pause_at_its_point_only() -> None:
    both = Rules("a.b:*=pause(1),a.b:begin=pause(2)@2")
    assert [both(Point("a.b:begin")) for _ in range(3)] == [1.0, 2.0, 0.0]
    assert Rules("a.b:begin=pause(0.25)")(Point("a.b:begin")) == 0.25
    assert Rules("a.b:begin=pause(0.25)")(Point("a.b:committed")) == 0.0


def test_failpoint_rule_for_another_process_does_not_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    (rule,) = parse_rules("watcher/a.b:begin=exit")
    assert not rule.matches("a.b:begin")
    monkeypatch.setattr(sys, "argv", ["manage.py", "run_watcher"])
    assert rule.matches("a.b:begin")


def test_rules_in_a_file_fire_in_one_process_only(tmp_path: Path) -> None:
    path = tmp_path / "points"
    one, another = FileRules(path), FileRules(path)
    assert one(Point("a.b:begin")) == 0.0
    path.write_text("a.b:begin=error")
    with pytest.raises(ConnectionCut):
        one(Point("a.b:begin"))
    assert another(Point("a.b:begin")) == 0.0
    assert (tmp_path / "points.fired").exists()


def test_exit_kills_the_process() -> None:
    code = (
        "from scheduling.db.failpoints import Point, Rules;"
        "Rules('a.b:begin=exit')(Point('a.b:begin')); print('it lives')"
    )
    done = run_python("-c", code)
    assert (done.returncode, done.stdout) == (-9, "")
