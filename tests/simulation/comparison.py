"""The parts of answers and rows that must be equal in the simulation and in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from scheduling.errors import NotFound, Refused
from scheduling.wire.messages import CommitResult


def outcome(act: Callable[[], Any]) -> Any:
    """Return the result of the call, or its refusal."""
    try:
        return act()
    except Refused as refused:
        return ("refused", refused.code, refused.message)
    except NotFound as unknown:
        return ("unknown", str(unknown))


ANSWER_COLUMNS = (
    *("renewed", "held_by", "status", "desired_version"),
    *("now_us", "late", "pending", "busy"),
)


def comparable(answer: Any) -> Any:
    """Return the part of an answer that must be equal in both; of a stored row only its id."""
    if isinstance(answer, dict):
        return {k: {c: getattr(row, c) for c in ANSWER_COLUMNS} for k, row in answer.items()}
    if isinstance(answer, list):
        return [comparable(each) for each in answer]
    if isinstance(answer, bool | int | str | CommitResult) or type(answer) is tuple:
        return answer
    return getattr(answer, "id", None)


def entries(wanted: Any) -> Any:
    """Return the version and entries of a desired set, or None."""
    if wanted is None:
        return None
    told = [
        (e.portfolio, e.name, e.role, e.epoch, e.revision, e.handoff, e.attempts, e.catch_up)
        for e in wanted.entries
    ]
    return wanted.version, wanted.frozen, told


def plan_of(tick: Any) -> Any:
    """Return what the planner wanted, without the sentences."""
    if tick.balance is None:
        return None
    plan = tick.balance.plan
    return (
        [(p.portfolio.name, p.target.name, p.reason.code) for p in plan.place],
        [(m.portfolio.name, m.target.name, m.cause, m.reason.code) for m in plan.move],
        [(p.portfolio.name, p.reason.code) for p in (*plan.pending, *plan.stuck)],
        tick.balance.requested,
        tick.balance.rejected,
    )


#: Kinds of events whose sentences have figures that the simulation does not compute.
SAID_WITH_FIGURES = ("node_lost", "stalled")


def in_order(table: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events of one moment in an order that does not depend on the query's plan."""
    if table != "events":
        return found
    found = [line for line in found if not line["kind"].startswith("alert_")]
    for line in found:
        line["reason"] = "" if line["kind"] in SAID_WITH_FIGURES else line["reason"]
    return sorted(found, key=lambda line: (line["at"], json.dumps(line, sort_keys=True)))
