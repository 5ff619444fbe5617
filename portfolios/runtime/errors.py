"""Errors of the runtime.

PortfolioRuntimeError
├── StrategyFailed   the strategy raised, or returned an invalid order
├── ArtifactUnusable the artifact of the revision cannot be imported, or lacks the strategy
├── VersionDiffers   the installed version of the strategy is not that of the revision
├── HistoryNeeded    the strategy wants to see events before its first one
├── SeqMismatch      the batch does not start at the portfolio's seq
└── StateUnreadable  the bytes of a checkpoint are not a valid state
"""

from __future__ import annotations


class PortfolioRuntimeError(Exception):
    """Base of all errors of the runtime; its text is for the person on call."""


class StrategyFailed(PortfolioRuntimeError):
    """The strategy raised: "KeyError: VIX in mean_reversion at seq 12"; `seq` is None on load."""

    def __init__(self, strategy: str, seq: int | None, cause: BaseException) -> None:
        self.strategy = strategy
        self.seq = seq
        where = "while loading" if seq is None else f"at seq {seq}"
        # str() of a KeyError is the repr of its key
        text = cause.args[0] if isinstance(cause, KeyError) and cause.args else cause
        super().__init__(f"{type(cause).__name__}: {text} in {strategy} {where}")


class ArtifactUnusable(PortfolioRuntimeError):
    """The artifact of the revision cannot be imported, or has no strategy of that name."""


class VersionDiffers(PortfolioRuntimeError):
    """The installed version of the strategy is not that of the revision."""


class HistoryNeeded(PortfolioRuntimeError):
    """The strategy wants the newest `events` events up to `last_seq` before it starts."""

    def __init__(self, events: int, last_seq: int) -> None:
        self.events = events
        self.last_seq = last_seq
        super().__init__(f"the strategy needs {events} events up to seq {last_seq} to warm up")


class SeqMismatch(PortfolioRuntimeError):
    """A batch would skip or repeat events."""


class StateUnreadable(PortfolioRuntimeError):
    """The bytes of a checkpoint are not a valid state."""
