"""The look that a process keeps for the questions it is asked, so that the next one is cheap."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scheduling.enact.recipe import django_cursor
from scheduling.enact.timing import timing
from scheduling.observe.snapshot import Observed, observe
from scheduling.observe.standing import Standing

#: A restored database may have other rows under the same versions. A watcher notices by a read that
#: fails; whoever is asked once an hour would not.
IDENTITY = """
SELECT d.oid AS database, pg_postmaster_start_time() AS started
FROM pg_database d WHERE d.datname = current_database()
"""

_one_at_a_time = threading.Lock()
_standing = Standing()
_of: Any = None


@contextmanager
def looking() -> Iterator[Observed]:
    """Hold the fleet as it is now. Six statements, which read what changed since the last time.

    One question at a time: what is held is good until the next look. Raises SnapshotUnavailable
    where the fleet could not be read.
    """
    global _of
    with _one_at_a_time:
        with django_cursor() as cursor:
            identity = cursor.execute(IDENTITY).fetchone()
        if identity != _of:
            _standing.forget()
            _of = identity
        yield observe(timing(), _standing)
