"""The one place where a reason becomes a sentence."""

from __future__ import annotations

from scheduling.decide.world import Reason


def render(reason: Reason) -> str:
    """Return the sentence for `reason`: what it needs, the state found, what would help."""
    raise NotImplementedError
