"""Failpoints: named places between every two statements of a recipe, where a rehearsal fails.

A point is named by its recipe and the statement behind it, as `handoff.release:after_grant`. Each
recipe has one before its first statement (`:begin`), one after every statement (a second one of the
same statement is `:after_touch_2`), and one after its transaction (`:committed`), where the change
stands and nobody has heard of it. The runners in `recipe.py` name them, so none can be forgotten.

Off, the price is one look at a global a recipe. They are armed by GINKGO_FAILPOINTS, which
`ginkgo_site/env.py` refuses unless GINKGO_REHEARSAL says what this installation is for:

    [PROCESS/]POINT=ACTION[@NTH], more after commas    web/handoff.release:after_grant=exit@3
    @/path/of/a/file                                   the same, looked up at every point

PROCESS is web, watcher or worker; POINT may hold `*`; ACTION is `error` (as a lost connection
would raise), `exit` (kill -9 of this process) or `pause(SECONDS)`; NTH counts in this process. What
stands in a file happens once: whoever renames the file to `….fired` is the one that fails.
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

#: Told of every point that is reached; may raise. Returns the seconds to pause there.
Hook = Callable[["Point"], float]

_hook: Hook | None = None


class ConnectionCut(psycopg.OperationalError):
    """What `error` raises: the connection was lost between two statements."""


@dataclass(frozen=True, slots=True)
class Point:
    """One place in one recipe, and the statement that was done last: (module, function, name)."""

    name: str
    statement: tuple[str, str, str] | None = None


class FailpointTracer:
    """The points of one recipe, in the order they are reached."""

    def __init__(self, recipe: Any, hook: Hook) -> None:
        self._recipe = recipe
        self._hook = hook
        self._name = _recipe_name(recipe)
        self._seen: Counter[str] = Counter()

    def begin(self) -> float:
        """Nothing was done yet."""
        return self._hook(Point(f"{self._name}:begin"))

    def after(self, statement: Statement) -> float:
        """A statement was done, and the recipe does not know yet what came of it."""
        name = statement.name
        self._seen[name] += 1
        times = self._seen[name]
        where = f"after_{name.lower()}" + (f"_{times}" if times > 1 else "")
        return self._hook(Point(f"{self._name}:{where}", (*_writer(self._recipe), name)))

    def committed(self) -> float:
        """The transaction is durable, and nobody has heard of it."""
        return self._hook(Point(f"{self._name}:committed"))


def walk(recipe: Any) -> FailpointTracer | None:
    """Return the walk of `recipe` where a rehearsal armed failpoints, or None, as always else."""
    return None if _hook is None else FailpointTracer(recipe, _hook)


@contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Have `hook` told of every point in this process."""
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def arm(text: str) -> None:
    """Arm what GINKGO_FAILPOINTS says, for the life of this process. Empty: nothing."""
    global _hook
    if text:
        logger.warning("failpoints are armed, this process may fail on purpose: %s", text)
        _hook = FromFile(Path(text[1:])) if text.startswith("@") else Rules(text)


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens at which point, the how manieth time."""

    process: str
    point: str
    action: str
    pause_s: float
    nth: int

    def meets(self, point: str) -> bool:
        """Whether this rule speaks of this point in this process."""
        return self.process in ("", process_name()) and fnmatchcase(point, self.point)

    def act(self, point: str) -> float:
        """Fail here, or return the seconds to pause."""
        logger.warning("failpoint %s: %s", point, self.action)
        if self.action == "exit":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.action == "error":
            raise ConnectionCut(f"failpoint {point}: the connection was cut here on purpose")
        return self.pause_s


def parsed(text: str) -> list[Rule]:
    """Return the rules of a text. Raises ValueError with the piece that is none."""
    rules = []
    for piece in filter(None, re.split(r"[,\s]+", text)):
        found = re.fullmatch(FAILPOINT, piece)
        if found is None:
            raise ValueError(piece)
        process, point, action, pause_s, nth = found.groups()
        rules.append(
            Rule(process or "", point, action.partition("(")[0], float(pause_s or 0), int(nth or 1))
        )
    return rules


class Rules:
    """A hook that follows rules and counts, in this process, how often each was met."""

    def __init__(self, text: str) -> None:
        self._rules = parsed(text)
        self._met: Counter[Rule] = Counter()

    def __call__(self, point: Point) -> float:
        due = self.due(point.name)
        return 0.0 if due is None else due.act(point.name)

    def due(self, point: str) -> Rule | None:
        """Return the rule whose turn it is now, counting this visit."""
        for rule in self._rules:
            if rule.meets(point):
                self._met[rule] += 1
                if self._met[rule] == rule.nth:
                    return rule
        return None


class FromFile:
    """A hook that follows the file as it is now. A file fires once, in one process of all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = ""
        self._rules = Rules("")

    def __call__(self, point: Point) -> float:
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError:
            self._text = ""
            return 0.0
        if text != self._text:
            self._rules, self._text = Rules(text), text
        due = self._rules.due(point.name)
        if due is None:
            return 0.0
        try:
            os.rename(self._path, f"{self._path}.fired")
        except OSError:
            return 0.0  # another process met it first
        return due.act(point.name)


def process_name() -> str:
    """Return web, watcher or worker, or "" for anything else; by the command line."""
    words = " ".join([*getattr(sys, "orig_argv", ()), *sys.argv])
    for name, word in (("watcher", "run_watcher"), ("worker", "qcluster"), ("web", "asgi:")):
        if word in words:
            return name
    return ""


def _recipe_name(recipe: Any) -> str:
    """Return `handoff.release` for a recipe of scheduling/enact/handoff/release_source.py."""
    module, function = _place(recipe)
    parts = [part for part in module.split(".") if part not in ("scheduling", "enact")]
    package = parts[0] if parts else module
    return f"{package}.{function}"


def _writer(recipe: Any) -> tuple[str, str]:
    """Return (module, function) of the recipe that yielded the present statement."""
    chain = [recipe]
    while getattr(chain[-1], "gi_yieldfrom", None) is not None:
        chain.append(chain[-1].gi_yieldfrom)
    # The innermost one is `call` or `one`, which every statement is yielded by.
    return _place(chain[-2] if len(chain) > 1 else chain[-1])


def _place(recipe: Any) -> tuple[str, str]:
    function = recipe.__qualname__.split(".<locals>")[0]
    frame = recipe.gi_frame
    return (frame.f_globals["__name__"] if frame is not None else "", function)
