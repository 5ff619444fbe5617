"""The engine of one portfolio: fills, marks, equity, strategy, limits, in that order per event."""

from __future__ import annotations

from collections.abc import Sequence

from portfolios.runtime.events import Event
from portfolios.runtime.results import BatchResult
from portfolios.runtime.spec import Spec
from portfolios.runtime.state import State


class PortfolioEngine:
    """Runs one portfolio under one spec. After an exception the engine is spent: discard it."""

    spec: Spec
    state: State
    last_seq: int

    @classmethod
    def fresh(cls, spec: Spec) -> PortfolioEngine:
        """Return an engine at first_seq - 1 with the starting cash and nothing else."""
        raise NotImplementedError

    @classmethod
    def restore(cls, spec: Spec, state: bytes, last_seq: int) -> PortfolioEngine:
        """Return an engine that goes on after `last_seq`.

        The strategy's part is adapted when strategy, state version or parameters differ: it is kept
        for the same strategy and state version, else the strategy's `adapt` decides or it is empty.
        """
        raise NotImplementedError

    def run(
        self, events: Sequence[Event], from_seq: int, to_seq: int, suppress: bool = False
    ) -> BatchResult:
        """Return what the events of (from_seq, to_seq] produced; `events` holds those of its symbols.

        Raise StrategyFailed or SeqMismatch, after which the engine must be discarded.
        """
        raise NotImplementedError
