"""The limits of what an artifact declares of its strategies.

They are checked twice. The sandboxed process that imports the artifact checks them, to name the
mistake. The process that reads the answer checks them again: the artifact's own code ran in the
sandboxed process and could write any answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from portfolios.runtime.messages import FoundStrategy

MAX_STRATEGIES = 50  #: of one artifact
MAX_SCHEMA_BYTES = 64 << 10  #: of one strategy
MAX_CLASS_PATH, MAX_SUMMARY = 300, 300  #: characters, as many as are stored
LARGEST = 2**31 - 1  #: what an integer column of PostgreSQL holds
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
NAME_RULE = "use at most 80 letters, digits, ., - and _, a letter or digit first"
_CLASS_PATH = re.compile(r"[^\s:]+:[^\s:]+")


def schema_too_large(name: str, size: int) -> str:
    """Return the refusal of a schema of `size` bytes. Pure."""
    return (
        f"the JSON schema of the parameters of {name} has {size:,} bytes, limit"
        f" {MAX_SCHEMA_BYTES:,}: use fewer parameters, or shorter choices and descriptions"
    )


def problem_in(found: Sequence[FoundStrategy]) -> str:
    """Return what is wrong with the strategies of an artifact, "" if nothing is. Pure."""
    if len(found) > MAX_STRATEGIES:
        return f"it has {len(found)} strategies, limit {MAX_STRATEGIES}"
    if len({each.name for each in found}) < len(found):
        return "two of its strategies have the same name"
    return next(filter(None, map(_problem_in_strategy, found)), "")


def _problem_in_strategy(found: FoundStrategy) -> str:
    """Return what is wrong with the declarations of one strategy, "" if nothing is."""
    name = found.name
    if not NAME.fullmatch(name):
        return f"a strategy has the name {name[:80]!r}; {NAME_RULE}"
    numbers = (found.version, found.state_version, found.warm_up or 0)
    if not all(0 <= number <= LARGEST for number in numbers):
        return (
            f"version, state_version and warm_up of {name} are {numbers}; each has to be from 0 to"
            f" {LARGEST:,}"
        )
    size = len(found.schema.encode())
    if size > MAX_SCHEMA_BYTES:
        return schema_too_large(name, size)
    path, summary = found.class_path, found.summary
    if len(path) > MAX_CLASS_PATH or not _CLASS_PATH.fullmatch(path):
        return (
            f"the class of {name} is {path[:80]!r}; it has to be MODULE:CLASS, of at most"
            f" {MAX_CLASS_PATH} characters"
        )
    if len(summary) > MAX_SUMMARY:
        return f"the summary of {name} has {len(summary):,} characters, limit {MAX_SUMMARY}"
    return ""
