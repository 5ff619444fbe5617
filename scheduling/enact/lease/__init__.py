"""Leases: renewed by heartbeats, shortened by a closed socket, ended by a goodbye or by expiry.

Only PostgreSQL's clock counts. Safety rests on the fence alone, so a wrong judgement here costs a
move and nothing else.
"""

from scheduling.enact.lease.departures import end_of_daemon, goodbye
from scheduling.enact.lease.gateways import gateway_left, record_gateway_alive
from scheduling.enact.lease.heartbeats import renew_leases
from scheduling.enact.lease.loss import mark_lost, next_expiry
from scheduling.enact.lease.sockets import connected, judge_socket_losses, socket_lost

__all__ = [
    "connected",
    "end_of_daemon",
    "gateway_left",
    "goodbye",
    "judge_socket_losses",
    "mark_lost",
    "next_expiry",
    "record_gateway_alive",
    "renew_leases",
    "socket_lost",
]
