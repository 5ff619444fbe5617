"""What a heartbeat says of the machine and the daemon."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

REFRESH_S = 2.0


class Metrics:
    """Figures of the machine (cpu_pct, mem_pct), the daemon and its portfolios (rss_mb)."""

    def __init__(self) -> None:
        """Start the cpu measure; its first figure covers the time until the first call."""
        self._daemon = psutil.Process()
        self._read_at_s = float("-inf")
        self._known: dict[str, float] = {}
        psutil.cpu_percent(None)

    def read(self, now_s: float, children: Iterable[int]) -> dict[str, float]:
        """Return the figures, at most two seconds old: a beat at once must not wait for /proc."""
        if now_s - self._read_at_s >= REFRESH_S:
            self._read_at_s = now_s
            self._known = {
                "cpu_pct": psutil.cpu_percent(None),
                "mem_pct": psutil.virtual_memory().percent,
                "rss_mb": round(self._daemon.memory_info().rss / 1e6, 1),
                "children_rss_mb": round(sum(map(_rss, children)) / 1e6, 1),
            }
        return self._known


def _rss(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
