"""Request checkpoints until there is a definite answer."""

from __future__ import annotations

import asyncio

from scheduling.node_daemon.context import DaemonContext
from scheduling.node_daemon.control_plane_client import back_off
from scheduling.node_daemon.errors import Fenced, RegistrationRefused, ServerUnavailable
from scheduling.node_daemon.logs import LOG
from scheduling.wire.messages import CheckpointAnswer, CheckpointRequest

RETRY_S = 0.5  #: while the database lacks an epoch that it granted
FIRST_BACK_OFF_S, MAX_BACK_OFF_S = 0.1, 1.0


async def checkpoint(
    context: DaemonContext, portfolio: int, handoff: int | None = None
) -> CheckpointAnswer:
    """Return the newest checkpoint, however long the server is unavailable. Raise RequestRefused.

    `handoff` is given where this node is its target and does not own the portfolio yet.
    """
    request = CheckpointRequest(
        incarnation=context.incarnation, portfolio=portfolio, handoff=handoff
    )
    attempt = 0
    while True:
        position = context.acknowledged.position(portfolio)
        try:
            found = await context.client.checkpoint(request)
        except (ServerUnavailable, RegistrationRefused) as error:
            # A refused token is retried too: if it was revoked, a heartbeat ends the daemon.
            if attempt % 10 == 0:
                LOG.warning("portfolio %d waits for its checkpoint: %s", portfolio, error)
            await back_off(attempt, FIRST_BACK_OFF_S, MAX_BACK_OFF_S)
            attempt += 1
        else:
            if context.acknowledged.database_lost_commits(portfolio, position, found):
                LOG.error(
                    "portfolio %d: the database lost acknowledged commits; it is at epoch %d, "
                    "seq %d",
                    portfolio,
                    found.epoch,
                    found.last_seq,
                )
                context.beat_soon()
            return found


async def granted_checkpoint(
    context: DaemonContext, portfolio: int, epoch: int
) -> CheckpointAnswer:
    """Return the checkpoint of a granted epoch. Raise Fenced if a higher epoch exists.

    A lower epoch means that the database lost a grant (a restore): ask again, never start.
    """
    while True:
        found = await checkpoint(context, portfolio)
        if found.epoch > epoch:
            raise Fenced(f"epoch {found.epoch} has been granted since")
        if found.epoch == epoch:
            return found
        context.beat_soon()
        await asyncio.sleep(RETRY_S)
