"""Whom a fault may touch. Everybody else is a bystander and must not notice."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Footprint:
    """Nodes and portfolios that a fault touches, from before it strikes until all has settled.

    Written by the fault's thread, read by the judge's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes: set[str] = set()
        self._portfolios: set[str] = set()
        self._everything = ""

    def add_nodes(self, names: Iterable[str]) -> None:
        """These nodes, and with them whatever they own."""
        with self._lock:
            self._nodes |= set(names)

    def add_portfolios(self, names: Iterable[str]) -> None:
        """These portfolios, wherever they run."""
        with self._lock:
            self._portfolios |= set(names)

    def add_everything(self, why: str) -> None:
        """All of them: `the database is away`."""
        with self._lock:
            self._everything = why

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes that it touches."""
        with self._lock:
            return frozenset(self._nodes)

    def touches(self, portfolio: str, node: str | None) -> bool:
        """Whether a portfolio that `node` owns is no bystander."""
        with self._lock:
            return bool(self._everything) or portfolio in self._portfolios or node in self._nodes
