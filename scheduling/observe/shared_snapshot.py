"""The look that a process keeps for the questions it is asked, so that the next one is cheap."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from scheduling.observe.snapshot import FleetSnapshot, observe
from scheduling.observe.snapshot_cache import SnapshotCache
from scheduling.timing import timing

_one_at_a_time = threading.Lock()
_standing = SnapshotCache()


@contextmanager
def shared_snapshot() -> Iterator[FleetSnapshot]:
    """Hold the fleet as it is now. Five statements, which read what changed since the last time.

    One question at a time: what is held is good until the next look. Raises SnapshotUnavailable
    where the fleet could not be read.
    """
    with _one_at_a_time:
        yield observe(timing(), _standing)
