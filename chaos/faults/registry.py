"""The faults `bin/chaos` can inject, by name."""

from __future__ import annotations

from chaos.faults import (
    control_plane,
    daemons,
    database,
    feeds,
    handoffs,
    hostile,
    load,
    locks,
    network,
    nodes,
    operators,
    partitions,
    pushes,
    roll_outs,
    strategies,
    versions,
)
from chaos.faults.fault import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for module in (
        daemons,
        control_plane,
        database,
        partitions,
        network,
        pushes,
        handoffs,
        roll_outs,
        feeds,
        strategies,
        versions,
        nodes,
        operators,
        hostile,
        locks,
        load,
    )
    for fault in module.FAULTS
}
