"""Which handoff ends which."""

from __future__ import annotations

RANK = {"stop": 3, "failover": 2, "place": 1, "migrate": 1, "reload": 1}


def outranks(new: str, active: str) -> bool:
    """Return whether a handoff of kind `new` ends an active one of kind `active`.

    delete and stop end everything below a stop, failover ends the rest, equals never end equals.
    Pure.
    """
    return RANK[new] > RANK[active]
