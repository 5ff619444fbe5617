"""Take the lines that portfolio processes printed, apart from commits and heartbeats."""

from __future__ import annotations

import asyncio

from scheduling.db.transaction import aexecute_autocommit
from scheduling.enact.portfolio_log import write_log
from scheduling.gateway.auth import NodeIdentity
from scheduling.gateway.message_decoding import decode_log, uuid_of
from scheduling.gateway.pool import log_pool
from scheduling.wire.messages import LogAnswer

#: Delay of the answer. With one request in progress, a node writes no more than MAX_LOG_LINES in
#: this time, whatever it sends.
ANSWER_DELAY_S = 0.5


async def answer_log(sender: NodeIdentity, body: bytes) -> LogAnswer:
    """Write the lines of the portfolios that the node runs or prepares, and ignore the others."""
    message = decode_log(body)
    incarnation, batch = uuid_of(message.incarnation), uuid_of(message.batch, "batch")
    async with log_pool().connection() as connection:
        written = await aexecute_autocommit(
            connection, write_log(sender.node, sender.name, incarnation, batch, message.streams)
        )
    await asyncio.sleep(ANSWER_DELAY_S)
    return LogAnswer(written=written)
