"""Raise the limit of open files and sockets of a process."""

from __future__ import annotations

import resource

#: A daemon needs two for each portfolio, the web process one for each connection.
MIN_OPEN_FILES = 256
WANTED_OPEN_FILES = 4096


class TooFewFiles(Exception):
    """The limit is too low and cannot be raised. The text names the remedy."""


def raise_open_file_limit() -> None:
    """Raise the limit of this process and its children to WANTED_OPEN_FILES, or the hard limit.

    Raise TooFewFiles if that is below MIN_OPEN_FILES.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= WANTED_OPEN_FILES:
        return
    most = WANTED_OPEN_FILES if hard == unlimited else min(WANTED_OPEN_FILES, hard)
    if most < MIN_OPEN_FILES:
        raise TooFewFiles(
            f"This process may open {most} files and sockets, and Ginkgo needs {MIN_OPEN_FILES}: "
            f"raise its hard limit: as root with `ulimit -n {WANTED_OPEN_FILES}`, with "
            f"LimitNOFILE={WANTED_OPEN_FILES} of systemd, or in /etc/security/limits.conf."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
