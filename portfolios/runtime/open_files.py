"""How many files and sockets a process may open."""

from __future__ import annotations

import resource

#: A daemon has two for each portfolio, the web process one for each connection.
NEEDED = 256
WANTED = 4096


class TooFewFiles(Exception):
    """The limit is too low and cannot be raised. The text is a sentence with its remedy."""


def raise_limit() -> None:
    """Raise the limit of this process and its children, or raise `TooFewFiles`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= WANTED:
        return
    most = WANTED if hard == unlimited else min(WANTED, hard)
    if most < NEEDED:
        raise TooFewFiles(
            f"This process may open {most} files and sockets, and Ginkgo needs {NEEDED}: raise the "
            f"limit, for example with `ulimit -n {WANTED}` or LimitNOFILE={WANTED} of systemd."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
