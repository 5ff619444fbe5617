"""Start a child process that cannot outlive its parent."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_LIBC: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Account:
    """The user to run a process as. It may lack an entry in the password database."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        """The user name, or the number if the user has none."""
        return name_of(self.uid)


def name_of(uid: int) -> str:
    """Return the name of a user, or the number if the user has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def spawn(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    output: IO[bytes],
    folder: Path,
    account: Account | None = None,
    death_signal: signal.Signals,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a new session, as `account` if one is given.

    The child gets `death_signal` when the calling thread dies, kill -9 included. The new session
    keeps the terminal's Ctrl-C away, so that the launcher decides the order of the stop.
    """
    as_user: dict[str, Any] = {}
    if account is not None:
        as_user = {"user": account.uid, "group": account.gid, "extra_groups": []}
    return subprocess.Popen(
        argv,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # Runs after the change of user, which would clear the signal if it were set before. The
        # launcher has one thread, so a function between fork and exec is safe.
        preexec_fn=_die_with_parent(os.getpid(), death_signal),
        **as_user,
    )


def _die_with_parent(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    """Return a function by which a child asks for `death_signal` at the end of `parent`."""

    def set_signal() -> None:
        if _LIBC is None:
            return
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os._exit(1)

    return set_signal
