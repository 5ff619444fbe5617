"""Hold failover by hand, and let it go on."""

from __future__ import annotations

from scheduling.enact import storm
from scheduling.enact.recipe import run


def hold_storm(*, actor: str, reason: str = "") -> None:
    """Hold failover until a person releases it; a hold of the storm guard is held on. Idempotent.

    Everything else goes on: place, stop, moves, and what people ask for.
    """
    run(storm.hold(actor, reason))


def release_storm(*, actor: str, reason: str = "") -> bool:
    """Let failover go on now. Return False where nothing was held. Idempotent."""
    return run(storm.release(actor, reason))
