"""Failpoints: named points between statements of a transaction, where a test makes a process fail.

A point is named by the function that makes the change and by the last statement, for example
`handoff.release:after_grant`. Each transaction has one point before its first statement (`:begin`),
one after every statement (the second execution of a statement is `:after_touch_2`), and one after
its commit (`:committed`), when the change is durable and nothing has been notified. The runners in
`transaction.py` visit the points, so no statement can be without one.

While none is armed, a transaction costs one read of a global. GINKGO_FAILPOINTS arms them, which
`ginkgo_site/env.py` refuses unless GINKGO_REHEARSAL is set:

    [PROCESS/]POINT=ACTION[@NTH], more after commas    web/handoff.release:after_grant=exit@3
    @/path/of/a/file                                   the same, read from the file at every point

PROCESS is web, watcher or worker. POINT may contain `*`. ACTION is `error` (raise as a lost
connection does), `exit` (SIGKILL this process) or `pause(SECONDS)`. NTH is the visit that fails,
counted per process. The contents of a file take effect once: in the process that renames the file
to `….fired`.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import psycopg

from ginkgo_site.env import FAILPOINT
from scheduling.db.statements import Statement

logger = logging.getLogger(__name__)

#: Called at every point; may raise. Returns the seconds to pause there.
Hook = Callable[["Point"], float]

_hook: Hook | None = None


class ConnectionCut(psycopg.OperationalError):
    """The action `error`: the connection was lost between two statements."""


@dataclass(frozen=True, slots=True)
class Point:
    """One failpoint of a transaction, and the last statement before it."""

    name: str
    #: (module, function, name of the statement); None before the first one and after the commit.
    statement: tuple[str, str, str] | None = None


class FailpointTracer:
    """Visit the points of one transaction in order."""

    def __init__(self, steps: Any, hook: Hook) -> None:
        self._steps = steps
        self._hook = hook
        self._name = _transaction_name(steps)
        self._seen: Counter[str] = Counter()

    def pause_at_begin(self) -> float:
        """Visit the point before the first statement. Return seconds to pause."""
        return self._hook(Point(f"{self._name}:begin"))

    def pause_after(self, statement: Statement) -> float:
        """Visit the point after `statement`, before its rows are used. Return seconds to pause."""
        name = statement.name
        self._seen[name] += 1
        times = self._seen[name]
        where = f"after_{name.lower()}" + (f"_{times}" if times > 1 else "")
        return self._hook(Point(f"{self._name}:{where}", (*_innermost(self._steps), name)))

    def pause_after_commit(self) -> float:
        """Visit the point after the commit. Return seconds to pause."""
        return self._hook(Point(f"{self._name}:committed"))


def trace(steps: Any) -> FailpointTracer | None:
    """Return a tracer of the transaction `steps` if failpoints are armed, else None."""
    return None if _hook is None else FailpointTracer(steps, _hook)


@contextmanager
def hook_installed(hook: Hook) -> Iterator[None]:
    """Call `hook` at every point that this process reaches within the block."""
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def arm(text: str) -> None:
    """Arm the value of GINKGO_FAILPOINTS for the life of this process; "" arms nothing."""
    global _hook
    if text:
        logger.warning("failpoints are armed, this process may fail on purpose: %s", text)
        _hook = FileRules(Path(text[1:])) if text.startswith("@") else Rules(text)


@dataclass(frozen=True, slots=True)
class Rule:
    """A failpoint rule: point, action, and the visit on which it fires."""

    process: str  #: "": every process
    point: str  #: a pattern for fnmatch
    action: str  #: error, exit or pause
    pause_s: float  #: of the action `pause`
    nth: int  #: visit; 1: the first

    def matches(self, point: str) -> bool:
        """Return whether the rule applies to this point in this process."""
        return self.process in ("", process_name()) and fnmatchcase(point, self.point)

    def fire(self, point: str) -> float:
        """Fail here, or return the seconds to pause."""
        logger.warning("failpoint %s: %s", point, self.action)
        if self.action == "exit":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.action == "error":
            raise ConnectionCut(f"failpoint {point}: the connection was cut here on purpose")
        return self.pause_s


def parse_rules(text: str) -> list[Rule]:
    """Parse rules, separated by commas or spaces. Raise ValueError, which names a wrong one."""
    rules = []
    for piece in filter(None, re.split(r"[,\s]+", text)):
        found = re.fullmatch(FAILPOINT, piece)
        if found is None:
            raise ValueError(f"{piece!r} is not a failpoint: give [PROCESS/]POINT=ACTION[@NTH]")
        process, point, action, pause_s, nth = found.groups()
        rules.append(
            Rule(process or "", point, action.partition("(")[0], float(pause_s or 0), int(nth or 1))
        )
    return rules


class Rules:
    """A hook that applies rules and counts, in this process, how often each one matched."""

    def __init__(self, text: str) -> None:
        self._rules = parse_rules(text)
        self._visits: Counter[Rule] = Counter()

    def __call__(self, point: Point) -> float:
        """Fire the rule that is due at this point, if any. Return the seconds to pause."""
        due = self.due(point.name)
        return 0.0 if due is None else due.fire(point.name)

    def due(self, point: str) -> Rule | None:
        """Count this visit for all matching rules. Return the first that fires on it, or None."""
        matching = [rule for rule in self._rules if rule.matches(point)]
        self._visits.update(matching)
        return next((rule for rule in matching if self._visits[rule] == rule.nth), None)


class FileRules:
    """A hook that applies the rules that a file has now. A file fires once, in one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = ""
        self._rules = Rules("")

    def __call__(self, point: Point) -> float:
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError:
            self._text = ""  # rules that are written again, with the same text, count from 1
            return 0.0
        if text != self._text:
            self._rules, self._text = Rules(text), text
        due = self._rules.due(point.name)
        if due is None:
            return 0.0
        try:
            os.rename(self._path, f"{self._path}.fired")
        except OSError:
            return 0.0  # another process fired first
        return due.fire(point.name)


def process_name() -> str:
    """Return web, watcher or worker, as the command line says; "" for any other process."""
    command_line = " ".join([*getattr(sys, "orig_argv", ()), *sys.argv])
    for name, word in (("watcher", "run_watcher"), ("worker", "qcluster"), ("web", "asgi:")):
        if word in command_line:
            return name
    return ""


def _transaction_name(steps: Any) -> str:
    """Return package and function: `handoff.release` for `release` of enact/handoff/….py."""
    module, function = _module_and_function(steps)
    parts = [part for part in module.split(".") if part not in ("scheduling", "enact")]
    package = parts[0] if parts else module
    return f"{package}.{function}"


def _innermost(steps: Any) -> tuple[str, str]:
    """Return (module, function) of the generator that yielded the present statement."""
    chain = [steps]
    while getattr(chain[-1], "gi_yieldfrom", None) is not None:
        chain.append(chain[-1].gi_yieldfrom)
    # The innermost generator is `query` or `query_one`.
    return _module_and_function(chain[-2] if len(chain) > 1 else chain[-1])


def _module_and_function(steps: Any) -> tuple[str, str]:
    """Return (module, function) of a generator; module "" if it has ended, and so has no frame."""
    function = steps.__qualname__.split(".<locals>")[0]
    frame = steps.gi_frame
    return (frame.f_globals["__name__"] if frame is not None else "", function)
