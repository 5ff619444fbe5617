"""Feed time on a node: boot time plus an offset that follows from the server's answers."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

KEPT_SAMPLES = 16
JUMP_US = 200_000  #: if the offset changes by more, and the round trip, the server's clock was set


class _Sample(NamedTuple):
    round_trip_us: int
    offset_us: int  #: by how much the database's clock is ahead of the boot-time clock


class FeedTime:
    """An estimate of the database's clock. The wall clock of the node is never read."""

    def __init__(self) -> None:
        """Start without a sample; call `sample` before `at`."""
        self._samples: deque[_Sample] = deque(maxlen=KEPT_SAMPLES)
        self._offset_us = 0

    def sample(self, server_us: int, sent_us: int, received_us: int) -> None:
        """Add a sample: `server_us`, read by the server between `sent_us` and `received_us`.

        Of the newest KEPT_SAMPLES, the one with the smallest round trip counts. If the
        server's clock has jumped, the samples before are dropped. A `server_us` of 0 adds nothing.
        """
        if server_us <= 0:
            return
        round_trip_us = max(received_us - sent_us, 0)
        new = _Sample(round_trip_us, server_us + round_trip_us // 2 - received_us)
        change_us = abs(new.offset_us - self._offset_us)
        if self._samples and change_us > JUMP_US + round_trip_us:
            self._samples.clear()
        self._samples.append(new)
        self._offset_us = min(self._samples).offset_us

    def at(self, boottime_us: int) -> int:
        """Return what the database's clock shows, in µs since the epoch, when the boot-time clock
        of this node shows `boottime_us`. An estimate, which decides what has been released."""
        return boottime_us + self._offset_us
