"""The user that strategies run as if root started the daemon.

The user has no entry in /etc/passwd, which is not changed, and owns no file. No service has the
same uid (systemd leaves 60706 to 61183 free).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from functools import cache

from portfolios.runtime.readable_paths import code_folders

STRATEGY_UID = 60907

_PR_SET_KEEPCAPS = 8
_CAPABILITY_VERSION_3 = 0x20080522
_READ_ANYTHING = 1 << 2  #: CAP_DAC_READ_SEARCH

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def drop_root(*, landlock: bool, reads: Sequence[str] = ()) -> list[str]:
    """If root runs this process, become the user of strategies. Return what stays unprotected.

    The list is empty, or has one sentence. If Python itself or one of `reads` is in a folder that
    only root can read, keep the capability to read all files, since otherwise nothing could be
    imported. Landlock then restricts reading.
    """
    if _libc is None or os.geteuid() != 0:
        return []
    blocked = unreadable_folder() or next(
        (path for path in reads if not _readable_by_all(path)), None
    )
    try:
        _libc.prctl(_PR_SET_KEEPCAPS, int(blocked is not None), 0, 0, 0)
        os.setgroups([])
        os.setresgid(STRATEGY_UID, STRATEGY_UID, STRATEGY_UID)
        os.setresuid(STRATEGY_UID, STRATEGY_UID, STRATEGY_UID)
    except OSError as error:
        why = f"user {STRATEGY_UID}: {error.strerror}"
        return [f"strategies run as root ({why}); start the node as another user"]
    if blocked is None:
        return []
    _keep_only(_READ_ANYTHING)
    if landlock:
        return []
    return [
        f"strategies can read every file: {blocked} can be read by root only, and this kernel has "
        "no Landlock; install Ginkgo and Python where every user can read them"
    ]


@cache
def unreadable_folder() -> str | None:
    """Return a folder of Python or of this project that not every user can read, or None."""
    return next((path for path in code_folders() if not _readable_by_all(path)), None)


def _keep_only(capability: int) -> None:
    """Drop all capabilities of this process but one."""
    assert _libc is not None
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("<6I", capability, capability, 0, 0, 0, 0)
    if _libc.capset(header, data) != 0:  # this call must not fail unnoticed
        os._exit(1)


def _readable_by_all(path: str) -> bool:
    """Return whether every user can read `path`; True if it does not exist."""
    path = os.path.realpath(path)
    try:
        mode = os.stat(path).st_mode
        if mode & 0o004 == 0:
            return False
        while True:
            if os.path.isdir(path) and os.stat(path).st_mode & 0o001 == 0:
                return False
            above = os.path.dirname(path)
            if above == path:
                return True
            path = above
    except OSError:
        return True
