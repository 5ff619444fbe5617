"""The action that follows the exit of a portfolio's process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from scheduling.decide.process_exit import (
    MAX_ATTEMPTS,
    MAX_FAILURES_PER_NODE,
    ExitAction,
    ExitDecision,
    ExitedRun,
    decide_exit,
)
from scheduling.wire.messages import ProcessExited

PROVEN = ExitedRun(revision=2, is_proven=True, good_revision=2, attempts=0, failures_on_node=0)
UNPROVEN = replace(PROVEN, is_proven=False, good_revision=1)


def exit_report(**fields: Any) -> ProcessExited:
    return ProcessExited(
        death=str(uuid4()), portfolio=1, epoch=3, revision=2, seq=10,
        **{"stage": "event", "error": "ZeroDivisionError", **fields},
    )  # fmt: skip


def test_proven_revision_restarts_and_counts_one_attempt() -> None:
    assert decide_exit(PROVEN, exit_report()) == ExitDecision(ExitAction.RESTART, attempts=1)


def test_idle_process_restarts_without_an_attempt() -> None:
    run = replace(PROVEN, attempts=MAX_ATTEMPTS - 1)
    assert decide_exit(run, exit_report(idle=True)) == ExitDecision(ExitAction.RESTART)


def test_last_attempt_quarantines() -> None:
    run = replace(PROVEN, attempts=MAX_ATTEMPTS - 1)
    assert decide_exit(run, exit_report()) == ExitDecision(
        ExitAction.QUARANTINE, attempts=MAX_ATTEMPTS
    )


@pytest.mark.parametrize(
    ("before_first_event", "handoff", "action"),
    [
        (True, None, ExitAction.PLACE_ELSEWHERE),
        (False, None, ExitAction.RESTART),  # one failure on this node, limit two
        (True, "migrate", ExitAction.RESTART),  # it is leaving the node already
    ],
)
def test_repeated_failure_before_the_first_event_leaves_the_node(
    before_first_event: bool, handoff: str | None, action: ExitAction
) -> None:
    run = replace(PROVEN, failures_on_node=MAX_FAILURES_PER_NODE - 1, handoff_kind=handoff)
    decision = decide_exit(run, exit_report(before_first_event=before_first_event))
    assert decision == ExitDecision(action, attempts=1)


def test_unproven_revision_falls_back_to_the_good_one() -> None:
    assert decide_exit(UNPROVEN, exit_report()) == ExitDecision(ExitAction.FALL_BACK)


@pytest.mark.parametrize("good", [None, 2])
def test_unproven_revision_restarts_if_no_other_is_good(good: int | None) -> None:
    run = replace(UNPROVEN, good_revision=good)
    assert decide_exit(run, exit_report()).action is ExitAction.RESTART


def test_exit_while_draining_for_a_stop_finishes_the_stop() -> None:
    run = replace(UNPROVEN, handoff_kind="stop", attempts=MAX_ATTEMPTS)
    assert decide_exit(run, exit_report()) == ExitDecision(ExitAction.FINISH_STOP)


@pytest.mark.parametrize(
    ("kind", "stage", "rejects"),
    [
        ("migrate", "load", True),
        ("migrate", "event", True),
        ("migrate", "exit", False),  # the node, not the revision, may be at fault
        ("reload", "killed", True),
    ],
)
def test_exit_before_the_first_commit_of_a_handoff_rolls_it_back(
    kind: str, stage: str, rejects: bool
) -> None:
    run = replace(UNPROVEN, handoff_kind=kind, is_activating=True)
    decision = decide_exit(run, exit_report(stage=stage))
    assert decision == ExitDecision(ExitAction.ROLL_BACK, rejects_revision=rejects)
