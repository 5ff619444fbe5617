"""The only clock of a node: boot time. It includes suspends, and cannot be set."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS has no boot-time clock


def boottime_s() -> float:
    """Return seconds since the machine started, suspends included."""
    return time.clock_gettime(_CLOCK)


def boottime_us() -> int:
    """Return microseconds since the machine started, suspends included."""
    return time.clock_gettime_ns(_CLOCK) // 1000
