"""Snapshot in, plan out."""

from __future__ import annotations

from scheduling.decide.world import Plan, Policy, Snapshot


def make_plan(snapshot: Snapshot, policy: Policy) -> Plan:
    """Return what should be placed and moved, and what cannot be, each with its reason. Pure."""
    raise NotImplementedError
