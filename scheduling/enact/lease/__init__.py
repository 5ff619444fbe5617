"""Leases: renewed by heartbeats, shortened by a closed socket, ended by a goodbye or by expiry.

Only PostgreSQL's clock counts. Safety rests on the fence alone, so a wrong judgement here costs a
move and nothing else.
"""

from scheduling.enact.lease.departures import record_dead_daemon, record_goodbye
from scheduling.enact.lease.gateways import record_gateway_alive, record_gateway_left
from scheduling.enact.lease.heartbeats import renew_leases
from scheduling.enact.lease.loss import mark_lost, next_expiry
from scheduling.enact.lease.sockets import judge_socket_losses, record_socket, record_socket_loss

__all__ = [
    "judge_socket_losses",
    "mark_lost",
    "next_expiry",
    "record_dead_daemon",
    "record_gateway_alive",
    "record_gateway_left",
    "record_goodbye",
    "record_socket",
    "record_socket_loss",
    "renew_leases",
]
