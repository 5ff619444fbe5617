"""Through which interface a change came, from which address and by whom: for the audit log.

Set once where a request or a command begins; every line that is written on its behalf carries it,
whichever statement writes the line: `enact.recipe.run` hands it to the database session, and the
columns of the audit log take it from there. Where nothing is set, the system itself acts.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a change comes from."""

    interface: str  #: api, dashboard, admin or command
    address: str = ""
    person: Callable[[], str] = lambda: ""
    """The name of the signed-in user; asked for when a line needs it, since that costs a query."""


_current: ContextVar[Origin | None] = ContextVar("ginkgo_origin", default=None)


def current() -> Origin | None:
    """Return where the present request or command comes from, or None in the system itself."""
    return _current.get()


@contextmanager
def acting_from(origin: Origin | None) -> Iterator[None]:
    """Let everything in the block come from `origin`."""
    token = _current.set(origin)
    try:
        yield
    finally:
        _current.reset(token)


def command_line_actor() -> str:
    """Return `cli:NAME` of the user of the machine."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container may run under a number without a name
        return "cli"


#: Commands that are the system itself; what the others change, a person at a terminal changes.
SERVICES = frozenset({"qcluster", "run_watcher", "run_verifications"})


def of_command(name: str) -> Origin | None:
    """Return the origin of what `manage.py NAME` changes."""
    if name in SERVICES:
        return None
    return Origin("command", person=command_line_actor)
