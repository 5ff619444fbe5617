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


LAST = replace(PROVEN, attempts=MAX_ATTEMPTS - 1)
FAILED_HERE = replace(PROVEN, failures_on_node=MAX_FAILURES_PER_NODE - 1)
ELSEWHERE = ExitDecision(ExitAction.PLACE_ELSEWHERE, attempts=1)
ONE_ATTEMPT = ExitDecision(ExitAction.RESTART, attempts=1)

CASES: dict[str, tuple[ExitedRun, dict[str, Any], ExitDecision]] = {
    "proven revision restarts and counts one attempt": (PROVEN, {}, ONE_ATTEMPT),
    "idle process restarts without an attempt":
        (LAST, {"idle": True}, ExitDecision(ExitAction.RESTART)),
    "last attempt quarantines": (LAST, {}, ExitDecision(ExitAction.QUARANTINE, MAX_ATTEMPTS)),
    "second failure before the first event leaves the node":
        (FAILED_HERE, {"before_first_event": True}, ELSEWHERE),
    "one failure on this node, limit two": (FAILED_HERE, {}, ONE_ATTEMPT),
    "it is leaving the node already":
        (replace(FAILED_HERE, handoff_kind="migrate"), {"before_first_event": True}, ONE_ATTEMPT),
    "unproven revision falls back to the good one":
        (UNPROVEN, {}, ExitDecision(ExitAction.FALL_BACK)),
    "unproven revision restarts if none is good":
        (replace(UNPROVEN, good_revision=None), {}, ONE_ATTEMPT),
    "unproven revision restarts if no other is good":
        (replace(UNPROVEN, good_revision=2), {}, ONE_ATTEMPT),
    "exit while draining for a stop finishes the stop":
        (replace(UNPROVEN, handoff_kind="stop", attempts=MAX_ATTEMPTS), {},
         ExitDecision(ExitAction.FINISH_STOP)),
}  # fmt: skip


@pytest.mark.parametrize(("run", "said", "decision"), CASES.values(), ids=CASES)
def test_exit_is_decided_by_the_run_and_the_report(
    run: ExitedRun, said: dict[str, Any], decision: ExitDecision
) -> None:
    assert decide_exit(run, exit_report(**said)) == decision


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
