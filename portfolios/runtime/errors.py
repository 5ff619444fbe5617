"""What can go wrong in the runtime.

RuntimeFault
├── StrategyFailed   the strategy raised, or answered something that is no order
├── VersionDiffers   the strategy here is not the version the revision was made with
├── SeqMismatch      the batch does not start where the portfolio is
└── StateUnreadable  the checkpoint's bytes are not a state of this runtime
"""

from __future__ import annotations


class PortfolioRuntimeError(Exception):
    """Base of all errors of the runtime; its text is a sentence for the person on call."""


class StrategyFailed(PortfolioRuntimeError):
    """The strategy raised: "KeyError: VIX in mean_reversion at seq 12"; `seq` is None on load."""

    def __init__(self, strategy: str, seq: int | None, cause: BaseException) -> None:
        self.strategy = strategy
        self.seq = seq
        where = "while loading" if seq is None else f"at seq {seq}"
        # str() of a KeyError is the repr of its key
        said = cause.args[0] if isinstance(cause, KeyError) and cause.args else cause
        super().__init__(f"{type(cause).__name__}: {said} in {strategy} {where}")


class VersionDiffers(PortfolioRuntimeError):
    """The strategy here is not the version the revision was made with."""


class SeqMismatch(PortfolioRuntimeError):
    """A batch was handed over that would skip or repeat events."""


class StateUnreadable(PortfolioRuntimeError):
    """The bytes of a checkpoint are not a state of this runtime."""
