"""Hold failover by hand, and let it go on."""

from __future__ import annotations

from scheduling.db.transaction import Transaction, execute
from scheduling.enact import storm, timeline


def hold_storm(*, actor: str, reason: str = "") -> None:
    """Hold failover until a person releases it; a hold of the storm guard is held on. Idempotent.

    Everything else goes on: place, stop, moves, and what people ask for.
    """
    execute(storm.hold(actor, reason))


def release_storm(*, actor: str, reason: str = "") -> bool:
    """Let failover go on now. Return False where nothing was held. Idempotent.

    Where it was held because acknowledged commits vanished, that is settled with it.
    """
    return execute(_release(actor, reason))


def _release(actor: str, reason: str) -> Transaction[bool]:
    was_held = yield from storm.release(actor, reason)
    if was_held:
        yield from timeline.settle()
    return was_held
