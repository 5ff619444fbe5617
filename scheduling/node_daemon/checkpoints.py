"""Request checkpoints until there is a definite answer."""

from __future__ import annotations

import asyncio

from scheduling.node_daemon.context import DaemonContext
from scheduling.node_daemon.control_plane_client import patiently
from scheduling.node_daemon.errors import Fenced
from scheduling.node_daemon.logs import LOG
from scheduling.wire.messages import CheckpointAnswer, CheckpointRequest

RETRY_S = 0.5  #: interval of requests while the database lacks an epoch that it granted


async def checkpoint(
    context: DaemonContext, portfolio: int, handoff: int | None = None
) -> CheckpointAnswer:
    """Return the newest checkpoint of a portfolio, however long the server is away.

    `handoff`: the one whose target is this node, if it does not own the portfolio yet. If the
    database lost acknowledged commits, a heartbeat reports that at once. Raise RequestRefused.
    """
    request = CheckpointRequest(
        incarnation=context.incarnation, portfolio=portfolio, handoff=handoff
    )

    async def attempt() -> CheckpointAnswer:
        position = context.acknowledged.position(portfolio)  # as it is before the request
        found = await context.client.checkpoint(request)
        if context.acknowledged.claim_lost_commits(portfolio, position, found):
            LOG.error(
                "portfolio %d: the database lost acknowledged commits; it is at epoch %d, seq %d",
                portfolio,
                found.epoch,
                found.last_seq,
            )
            context.beat_soon()
        return found

    return await patiently(f"the checkpoint of portfolio {portfolio}", attempt)


async def granted_checkpoint(
    context: DaemonContext, portfolio: int, epoch: int
) -> CheckpointAnswer:
    """Return the checkpoint of a granted epoch. Raise Fenced if a higher epoch exists.

    A lower epoch means that the database lost the grant (a restore): repeat the request, since a
    process must not start under an epoch that the database does not know.
    """
    while True:
        found = await checkpoint(context, portfolio)
        if found.epoch > epoch:
            raise Fenced(f"epoch {epoch} has ended, since epoch {found.epoch} was granted")
        if found.epoch == epoch:
            return found
        context.beat_soon()
        await asyncio.sleep(RETRY_S)
