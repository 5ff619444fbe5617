"""Restrict the queue to the functions of `scheduling.tasks`, however its rows were written.

django-q2 runs any importable function that a schedule names, so that a user who can write one row
of its tables could run a shell. Two of its signals prevent that: `pre_enqueue`, when a schedule
becomes a task (before anything is imported), and `pre_execute`, in the worker, for tasks that were
put into the queue in another way.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from typing import Any

from scheduling.db.transaction import execute
from scheduling.enact.audit_log import audit_refused_task

logger = logging.getLogger(__name__)

#: Options that would run another function, or run the task outside of a worker.
FORBIDDEN_OPTIONS = ("hook", "chain", "sync", "iter_count", "iter_cached", "cached")
#: The tasks: each public function of `scheduling.tasks`, by its dotted name.
TASKS = frozenset(
    f"scheduling.tasks.{name}"
    for name in (
        "balance",
        "deliver_alerts",
        "heartbeat_sweep",
        "prune",
        "refused",
        "verify",
        "verify_in_background",
    )
)


class TaskRefused(Exception):
    """The queue was asked to run a function that is not a registered task."""


def refusal(task: dict[str, Any]) -> str:
    """Return why the queue must not run `task`, as a sentence, or "" if it may."""
    name = function_name(task)
    if name not in TASKS:
        return f"The queue was asked to run {name}, which is not a task of scheduling.tasks."
    given = [option for option in FORBIDDEN_OPTIONS if task.get(option)]
    if given:
        return f"The queue was asked to run {name} with {', '.join(given)}, which is not allowed."
    return ""


def function_name(task: dict[str, Any]) -> str:
    """Return the dotted name of the task's function: at most 200 printable characters."""
    function = task.get("func")
    if inspect.isfunction(function):
        function = f"{function.__module__}.{function.__qualname__}"
    return ascii(str(function)[:200])[1:-1]


def refuse_at_enqueue(sender: Any, task: dict[str, Any], **kwargs: Any) -> None:
    """Replace a forbidden task by one that only records the refusal.

    An exception here would roll back the scheduler's transaction and block all other schedules.
    """
    why = refusal(task)
    if not why:
        return
    name = function_name(task)
    _drop_forbidden_options(task)
    task["func"] = "scheduling.tasks.refused"
    task["args"] = ()
    task["kwargs"] = {"func": name, "why": why}


def refuse_in_worker(sender: Any, func: Any, task: dict[str, Any], **kwargs: Any) -> None:
    """Make the call of a forbidden task raise TaskRefused within the worker's error handling.

    The worker has already resolved the function, so only its arguments can be replaced. An
    exception raised here would end the worker and leave the row in the queue, again and again.
    """
    why = refusal(task)
    if why:
        name = function_name(task)
        _drop_forbidden_options(task)
        task["args"] = _RaisingArguments(task, name, why)
        task["kwargs"] = {}


class _RaisingArguments:
    """Task arguments that raise TaskRefused when the worker unpacks them."""

    def __init__(self, task: dict[str, Any], name: str, why: str) -> None:
        self._task, self._name, self._why = task, name, why

    def __iter__(self) -> Iterator[Any]:
        self._task["args"] = ()  # the task is stored afterwards, and must not contain this object
        refuse(self._name, self._why)
        return iter(())


def _drop_forbidden_options(task: dict[str, Any]) -> None:
    for option in FORBIDDEN_OPTIONS:
        task.pop(option, None)


def refuse(name: str, why: str) -> None:
    """Record the refusal in the process log and the audit log, then raise TaskRefused."""
    logger.error("task refused: %s", why)
    execute(audit_refused_task(name, why))
    raise TaskRefused(why)
