"""Decide what happens to a portfolio whose process exited without being asked to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from scheduling.wire.messages import ProcessExited

#: Attempts without progress after which a portfolio is quarantined.
MAX_ATTEMPTS = 5

#: Failures before the first event on one node after which the next attempt is on another node.
MAX_FAILURES_PER_NODE = 2


class ExitAction(Enum):
    FINISH_STOP = auto()  #: the portfolio was draining for a stop: the stop is over
    ROLL_BACK = auto()  #: the target of a handoff exited before its first commit
    FALL_BACK = auto()  #: grant the last good revision on the same node
    RESTART = auto()  #: the node starts it again, after the back-off of its attempts
    PLACE_ELSEWHERE = auto()  #: end the ownership; the balancer chooses another node
    QUARANTINE = auto()  #: end the ownership until an operator starts it


@dataclass(frozen=True, slots=True)
class ExitedRun:
    """The run and its active handoff, as read under the lock of the run."""

    revision: int
    is_proven: bool  #: the revision is good
    good_revision: int | None
    attempts: int  #: without progress; this exit is not included
    failures_on_node: int  #: exits before the first event on this node; this one is not included
    handoff_kind: str | None = None  #: of the active handoff
    is_activating: bool = False  #: the active handoff waits for the first commit


@dataclass(frozen=True, slots=True)
class ExitDecision:
    """What to do about an exit, and what it counts as."""

    action: ExitAction
    attempts: int | None = None  #: the count after this exit; None: this exit is not an attempt
    rejects_revision: bool = False  #: ROLL_BACK: the revision of the handoff is at fault


def decide_exit(run: ExitedRun, exited: ProcessExited) -> ExitDecision:
    """Return what to do about a process that owned `run` and exited.

    The exit of an idle process is not an attempt, since the process failed at no event. Only a
    committed event ends the count of attempts: on a feed that stands still, five processes killed
    manually within a week would otherwise quarantine the portfolio.
    """
    if run.handoff_kind == "stop":
        return ExitDecision(ExitAction.FINISH_STOP)
    if run.is_activating:
        at_fault = exited.stage in ("load", "event") or run.handoff_kind == "reload"
        return ExitDecision(ExitAction.ROLL_BACK, rejects_revision=at_fault)
    if not run.is_proven and run.good_revision not in (None, run.revision):
        return ExitDecision(ExitAction.FALL_BACK)
    if exited.idle:
        return ExitDecision(ExitAction.RESTART)
    attempts = run.attempts + 1
    if attempts >= MAX_ATTEMPTS:
        return ExitDecision(ExitAction.QUARANTINE, attempts)
    failures = run.failures_on_node + exited.before_first_event
    # The target of a handoff under way is another node already.
    if failures >= MAX_FAILURES_PER_NODE and run.handoff_kind is None:
        return ExitDecision(ExitAction.PLACE_ELSEWHERE, attempts)
    return ExitDecision(ExitAction.RESTART, attempts)
