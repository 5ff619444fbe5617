"""Precedence of handoff kinds."""

from __future__ import annotations

RANK = {"stop": 3, "failover": 2, "place": 1, "migrate": 1, "reload": 1}


def outranks(new: str, active: str) -> bool:
    """Return whether a handoff of kind `new` ends an active one of kind `active`.

    A stop (also for halt and delete) ends every other kind, a failover ends the rest, and equal
    ranks never end each other. Pure.
    """
    return RANK[new] > RANK[active]
