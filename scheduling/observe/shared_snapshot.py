"""One snapshot cache for all what-if requests of a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from scheduling.observe.snapshot import FleetSnapshot, observe
from scheduling.observe.snapshot_cache import SnapshotCache
from scheduling.timing import timing

_lock = threading.Lock()
_cache = SnapshotCache()


@contextmanager
def shared_snapshot() -> Iterator[FleetSnapshot]:
    """Yield the current fleet under a lock, since the next read of the cache changes it.

    Five statements, which read what changed since the last call. Raise SnapshotUnavailable if the
    fleet cannot be read.
    """
    with _lock:
        yield observe(timing(), _cache)
