"""Errors of the runtime.

RuntimeFault
├── StrategyFailed   the strategy raised, or returned an invalid order
├── ArtifactUnusable the artifact of the revision cannot be imported, or lacks the strategy
├── VersionDiffers   the installed version of the strategy is not that of the revision
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


class SeqMismatch(PortfolioRuntimeError):
    """A batch would skip or repeat events."""


class StateUnreadable(PortfolioRuntimeError):
    """The bytes of a checkpoint are not a valid state."""
