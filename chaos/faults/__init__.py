"""Everything that can be done to the house, by name."""

from __future__ import annotations

from chaos.faults import (
    control_plane,
    daemons,
    database,
    handoffs,
    hostile,
    load,
    locks,
    network,
    nodes,
    people,
    pushes,
    strategies,
    versions,
    wires,
)
from chaos.faults.fault import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for module in (
        daemons,
        control_plane,
        database,
        wires,
        network,
        pushes,
        handoffs,
        strategies,
        versions,
        nodes,
        people,
        hostile,
        locks,
        load,
    )
    for fault in module.FAULTS
}
