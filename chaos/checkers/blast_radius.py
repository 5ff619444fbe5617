"""The nodes and portfolios that a fault may affect. All others are bystanders."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class BlastRadius:
    """Nodes and portfolios affected by a fault, from before its injection until convergence.

    Written by the fault's thread, read by the monitor's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes: set[str] = set()
        self._portfolios: set[str] = set()
        self._all_because = ""  #: why every portfolio is affected; "": not all are

    def add_nodes(self, names: Iterable[str]) -> None:
        """Add nodes: a portfolio is affected for as long as one of them owns it."""
        with self._lock:
            self._nodes |= set(names)

    def add_portfolios(self, names: Iterable[str]) -> None:
        """Add portfolios, on whichever node they run."""
        with self._lock:
            self._portfolios |= set(names)

    def add_all(self, why: str) -> None:
        """Add every portfolio, because of `why` (not empty), such as `the database is down`."""
        with self._lock:
            self._all_because = why

    @property
    def nodes(self) -> frozenset[str]:
        """The affected nodes."""
        with self._lock:
            return frozenset(self._nodes)

    def includes(self, portfolio: str, node: str | None) -> bool:
        """Whether a portfolio is affected: by its name, by its owner `node`, or since all are."""
        with self._lock:
            return bool(self._all_because) or portfolio in self._portfolios or node in self._nodes
