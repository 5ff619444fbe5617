"""Begin and end of a daemon: register takes the lease of a node, goodbye gives it back."""

from __future__ import annotations

import logging

import msgspec
import psycopg

from scheduling.db.transaction import aexecute, aexecute_autocommit
from scheduling.enact.lease import record_goodbye
from scheduling.enact.register import incarnation_refusal, register
from scheduling.gateway.auth import NodeIdentity
from scheduling.gateway.http import RequestRejected
from scheduling.gateway.identity import GATEWAY_ID
from scheduling.gateway.message_decoding import decode, uuid_of, validate_registration
from scheduling.gateway.pool import locking_connection
from scheduling.observe.desired_set import desired_set
from scheduling.timing import timing
from scheduling.wire import messages as wire

logger = logging.getLogger(__name__)


class _Registration(msgspec.Struct):
    """The part of a Register message that is the same in every version of the protocol."""

    protocol: int


async def answer_registration(sender: NodeIdentity, body: bytes) -> wire.Registered:
    """Give the lease of the node to this daemon, and return what it should run."""
    # The protocol number first: the message of an old daemon may not fit the schema.
    protocol = decode(body, _Registration).protocol
    if protocol not in wire.SPOKEN:
        spoken = " and ".join(map(str, wire.SPOKEN))
        raise RequestRejected(
            409,
            "protocol",
            f"This daemon speaks protocol {protocol}, the gateway {spoken}; "
            "install the same version of Ginkgo on both.",
        )
    message = decode(body, wire.Register)
    uuid_of(message.incarnation)
    validate_registration(message)
    times = timing()
    async with locking_connection(sender.node) as connection:
        try:
            await aexecute(
                connection, register(sender.node, sender.name, message, times, GATEWAY_ID)
            )
        except psycopg.errors.UniqueViolation:
            # Concurrent writer: a registration of another node under the same incarnation.
            raise incarnation_refusal(sender.name) from None
        desired = await aexecute_autocommit(connection, desired_set(sender.node))
        cursor = await connection.execute(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint, registrations"
            " FROM scheduling_node WHERE id = %s",
            (sender.node,),
        )
        row = await cursor.fetchone()  # the database's time in µs, and the count of registrations
    if desired is None or row is None:
        raise RequestRejected(
            503,
            "unavailable",
            f"The lease of node {sender.name} ended while it registered; repeat.",
        )
    now_us, registrations = row
    logger.info("node %s registered, incarnation %s", sender.name, message.incarnation)
    return wire.Registered(
        node=sender.node,
        name=sender.name,
        lease_ttl_s=times.lease_ttl_s,
        heartbeat_interval_s=times.heartbeat_interval_s,
        drain_deadline_s=times.drain_deadline_s,
        stale_order_age_s=times.stale_order_age_s,
        stall_s=times.stall_s,
        now_us=now_us,
        desired=desired,
        # It may already count another daemon that registered meanwhile, and now holds the lease.
        registration=registrations,
    )


async def answer_goodbye(sender: NodeIdentity, body: bytes) -> wire.HeartbeatAnswer:
    """End the lease of a daemon that leaves; answer `superseded` if another daemon has it."""
    message = decode(body, wire.Goodbye)
    incarnation = uuid_of(message.incarnation)
    async with locking_connection(sender.node) as connection:
        was_holder = await aexecute(
            connection, record_goodbye(sender.node, sender.name, incarnation, message.reason[:500])
        )
    return wire.HeartbeatAnswer(status="ok" if was_holder else "superseded")
