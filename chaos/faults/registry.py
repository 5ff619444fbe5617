"""The faults `bin/chaos` can inject, by fleet and name."""

from __future__ import annotations

from chaos.faults import (
    control_plane,
    daemons,
    database,
    exits,
    feeds,
    handoffs,
    hostile,
    load,
    locks,
    many,
    network,
    nodes,
    operators,
    partitions,
    pushes,
    roll_outs,
    strategies,
    streams,
    versions,
)
from chaos.faults.fault import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for module in (
        *(daemons, control_plane, database, partitions, network, pushes, handoffs, roll_outs),
        *(feeds, strategies, versions, nodes, operators, hostile, exits, locks, load),
    )
    for fault in module.FAULTS
}

#: Name of a fleet, as in `--fleet` → the faults that it can suffer, by name.
FAULTS_OF_FLEET: dict[str, dict[str, Fault]] = {
    "one": FAULTS,
    "jetstream": FAULTS | {fault.name: fault for fault in streams.FAULTS},
    "many": {fault.name: fault for fault in (*many.FAULTS, *load.FAULTS)},
}
