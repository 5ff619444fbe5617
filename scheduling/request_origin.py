"""The origin of a change (interface, address, person), for the audit log.

Set once where a request or a command begins. `db.transaction.execute` passes it to the database
session, from which the columns of the audit log take it, whichever statement writes the line.
Without an origin the system itself acts.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Through which interface, from which address, and by whom a change is made."""

    interface: str  #: api, dashboard, admin or command
    address: str = ""
    person: Callable[[], str] = lambda: ""
    """Return the name of the signed-in user. Called only for a line of the audit log: a query."""


_current: ContextVar[Origin | None] = ContextVar("ginkgo_origin", default=None)


def current() -> Origin | None:
    """Return the origin of the current request or command, or None in the system itself."""
    return _current.get()


@contextmanager
def acting_from(origin: Origin | None) -> Iterator[None]:
    """Make `origin` the origin of all changes in the block."""
    token = _current.set(origin)
    try:
        yield
    finally:
        _current.reset(token)


def command_line_actor() -> str:
    """Return `cli:NAME` with the name of the operating system user, `cli` if there is none."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # in a container the user id may have no name
        return "cli"


#: Commands that are the system itself. Other commands act for the person at the terminal.
SERVICES = frozenset({"qcluster", "run_watcher", "run_verifications"})


def of_command(name: str) -> Origin | None:
    """Return the origin of changes by `manage.py NAME`; None for a service, the system itself."""
    if name in SERVICES:
        return None
    return Origin("command", person=command_line_actor)
