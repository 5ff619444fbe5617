"""A small initial fleet in a simulated database."""

from __future__ import annotations

from uuid import UUID

from scheduling.wire.messages import PROTOCOL, Register
from tests.simulation import (
    commits,
    grants,
    handoffs,
    leases,
    operators,
    reads,
    roll_outs,
    rows,
    storms,
)
from tests.simulation.database import Store

#: Modules that register, as they are imported, the answers of the model to statements.
ANSWERED_BY = (commits, grants, handoffs, leases, reads, operators, roll_outs, storms)

#: The first moment. Tests advance by eighths of a second, exact as floats and in microseconds.
START = 1_800_000_000.0

#: The ids of the gateways of three web processes.
GATEWAYS = (UUID(int=2**64 + 1), UUID(int=2**64 + 2), UUID(int=2**64 + 3))


def a_store(nodes: int, portfolios: int, *, rate: float = 10) -> Store:
    """Return a store with unregistered nodes and unassigned portfolios; `rate` in events/s."""
    db = Store(START)
    db.feed.rate = rate
    for number in range(1, nodes + 1):
        db.nodes[number] = rows.Node(number, f"node-{number}", status_since=START)
    for number in range(1, portfolios + 1):
        uid = str(UUID(int=number))
        db.portfolios[number] = rows.Portfolio(number, f"p-{number}", uid)
        db.revisions[number, 1] = rows.Revision(number, 1)
        db.runs[number] = rows.Run(number, 0, 0, phase_since=START)
    for gateway in GATEWAYS:
        db.gateways[gateway] = rows.Gateway(gateway, START - 3600, START)
    return db


def registration(incarnation: UUID, capacity: int = 5) -> Register:
    return Register(
        protocol=PROTOCOL, incarnation=str(incarnation), host="rack-1", pid=4100, version="0.1.0",
        capacity=capacity, labels={}, strategies={"canary": 1}, feeds={"demo": "0" * 64},
    )  # fmt: skip
