"""Metrics of the machine, the daemon and its portfolios, for heartbeats."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import psutil

REFRESH_S = 2.0  #: metrics are read anew after this time
WINDOW_S = 60.0  #: over which processor time is averaged


class CpuSample(NamedTuple):
    """Seconds of processor time, and when they were read. Only differences count."""

    at_s: float
    busy_s: float  #: of all processors of the machine together
    all_s: float  #: the same, idle time included
    processes: Mapping[int, float]  #: pid → processor time of the process


class CpuUsage:
    """Processor time over the last minute, in per cent of the machine.

    Available only once the same processes ran for a minute: after a process started or ended, the
    last minute does not describe the present ones, and a rebalance based on it would move too many
    portfolios.
    """

    def __init__(self) -> None:
        self._samples: deque[CpuSample] = deque()

    def add(self, sample: CpuSample) -> None:
        """Add a sample, and forget those that no longer serve.

        These are all earlier ones if the set of processes has changed, else those over a minute old
        but the newest of them.
        """
        samples = self._samples
        if samples and samples[-1].processes.keys() != sample.processes.keys():
            samples.clear()
        samples.append(sample)
        while len(samples) > 1 and samples[1].at_s <= sample.at_s - WINDOW_S:
            samples.popleft()

    def machine_pct(self) -> float | None:
        """Return the usage of the machine, or None before a full minute was measured."""
        if not self._is_complete():
            return None
        first, last = self._samples[0], self._samples[-1]
        return self._per_cent(last.busy_s - first.busy_s)

    def process_pct(self, pid: int) -> float | None:
        """Return the usage of one process, or None before a full minute was measured."""
        if not self._is_complete() or pid not in self._samples[0].processes:
            return None
        first, last = self._samples[0].processes[pid], self._samples[-1].processes[pid]
        return self._per_cent(last - first)

    def _is_complete(self) -> bool:
        """Return whether the samples cover a full minute."""
        samples = self._samples
        return bool(samples) and samples[-1].at_s - samples[0].at_s >= WINDOW_S

    def _per_cent(self, spent_s: float) -> float:
        """Return `spent_s` in per cent of the machine's processor time since the oldest sample."""
        total_s = self._samples[-1].all_s - self._samples[0].all_s
        return round(min(max(100 * spent_s / total_s, 0.0), 100.0), 2) if total_s > 0 else 0.0


class Metrics:
    """Metrics of the machine (cpu_pct, cpu_minute_pct, mem_pct), of the daemon (rss_mb) and of its
    portfolio processes (children_rss_mb), and the share of processor time of each process."""

    def __init__(self) -> None:
        """Start measuring; the first value covers the time until the first `read`."""
        self._daemon = psutil.Process()
        self._read_at_s = float("-inf")
        self._figures: dict[str, float] = {}
        self._usage = CpuUsage()
        psutil.cpu_percent(None)

    def read(self, now_s: float, children: Iterable[int]) -> dict[str, float]:
        """Return name → value, up to REFRESH_S old: /proc is slow to read. `children` are pids."""
        if now_s - self._read_at_s >= REFRESH_S:
            self._read_at_s = now_s
            usage_by_pid = {pid: _process_usage(pid) for pid in children}
            times = psutil.cpu_times()
            idle_s = times.idle + getattr(times, "iowait", 0.0)
            # The time of guests is already part of user and nice.
            guests_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
            all_s = sum(times) - guests_s
            processes = {pid: cpu_s for pid, (_, cpu_s) in usage_by_pid.items()}
            self._usage.add(CpuSample(now_s, all_s - idle_s, all_s, processes))
            self._figures = {
                "cpu_pct": psutil.cpu_percent(None),
                "mem_pct": psutil.virtual_memory().percent,
                "rss_mb": round(self._daemon.memory_info().rss / 1e6, 1),
                "children_rss_mb": round(sum(rss for rss, _ in usage_by_pid.values()) / 1e6, 1),
            }
            minute_pct = self._usage.machine_pct()
            if minute_pct is not None:
                self._figures["cpu_minute_pct"] = minute_pct
        return self._figures

    def cpu_pct_of(self, pid: int | None) -> float | None:
        """Return the process's share of the machine over the last minute, in %; None if unknown."""
        return None if pid is None else self._usage.process_pct(pid)


def _process_usage(pid: int) -> tuple[int, float]:
    """Return (memory in bytes, processor time in seconds); zeros if the process has ended."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return int(process.memory_info().rss), times.user + times.system
    except psutil.Error:
        return 0, 0.0
