"""The queue runs the functions of `scheduling.tasks` and nothing else, however its row was written.

django-q2 runs any importable function that a schedule names, so a user who may write one row of its
tables could run a shell. Two of its signals close that: `pre_enqueue`, while a schedule becomes a
task (before anything is imported), and `pre_execute`, in the worker itself, for a package that was
put into the queue by other means.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from typing import Any

from scheduling.db.transaction import execute
from scheduling.enact.audit_log import audit_refused_task

logger = logging.getLogger(__name__)

#: What would run beside the function itself, or in another process than a worker.
FORBIDDEN_OPTIONS = ("hook", "chain", "sync", "iter_count", "iter_cached", "cached")


class TaskRefused(Exception):
    """The queue was asked for a function that is not one of the product's tasks."""


def registered_tasks() -> dict[str, Any]:
    """Return dotted name → function of every public function defined in `scheduling.tasks`."""
    from scheduling import tasks

    return {
        f"{tasks.__name__}.{name}": function
        for name, function in inspect.getmembers(tasks, inspect.isfunction)
        if function.__module__ == tasks.__name__ and not name.startswith("_")
    }


def refusal(task: dict[str, Any]) -> str:
    """Return why the queue must not run `task`, in a sentence, or "" where it may."""
    name = function_name(task)
    if name not in registered_tasks():
        return f"The queue was asked to run {name}, which is not a task of scheduling.tasks."
    extra = [option for option in FORBIDDEN_OPTIONS if task.get(option)]
    if extra:
        return f"The queue was asked to run {name} with {', '.join(extra)}, which is not allowed."
    return ""


def function_name(task: dict[str, Any]) -> str:
    """Return the dotted name of the task's function, at most 200 printable characters of it."""
    function = task.get("func")
    if inspect.isfunction(function):
        function = f"{function.__module__}.{function.__qualname__}"
    return ascii(str(function)[:200])[1:-1]


def refuse_at_enqueue(sender: Any, task: dict[str, Any], **kwargs: Any) -> None:
    """Turn a task that must not run into one that only records the refusal.

    An exception here would undo the scheduler's transaction and hold up every other schedule.
    """
    why = refusal(task)
    if not why:
        return
    name = function_name(task)
    _strip(task)
    task["func"] = "scheduling.tasks.refused"
    task["args"] = ()
    task["kwargs"] = {"func": name, "why": why}


def refuse_in_worker(sender: Any, func: Any, task: dict[str, Any], **kwargs: Any) -> None:
    """Let the call of a task that must not run raise TaskRefused, in the worker's own handler.

    The worker has resolved the function already; what is left to take away are its arguments. An
    exception raised here would end the worker with the row still in the queue, again and again.
    """
    why = refusal(task)
    if why:
        name = function_name(task)
        _strip(task)
        task["args"] = _RaisingArguments(task, name, why)
        task["kwargs"] = {}


class _RaisingArguments:
    """Arguments that raise when the worker unpacks them, and leave none behind."""

    def __init__(self, task: dict[str, Any], name: str, why: str) -> None:
        self._task, self._name, self._why = task, name, why

    def __iter__(self) -> Iterator[Any]:
        self._task["args"] = ()  # the task is stored, and this is not to be
        refuse(self._name, self._why)
        return iter(())


def _strip(task: dict[str, Any]) -> None:
    for option in FORBIDDEN_OPTIONS:
        task.pop(option, None)


def refuse(name: str, why: str) -> None:
    """Record the refusal in log and audit log, then raise TaskRefused."""
    logger.error("task refused: %s", why)
    execute(audit_refused_task(name, why))
    raise TaskRefused(why)
