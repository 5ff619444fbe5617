"""Shut down on SIGTERM: hand portfolios over, release the rest in place, end the lease."""

from __future__ import annotations

import asyncio

from scheduling.node_daemon.clock import boottime_s
from scheduling.node_daemon.control_plane_client import ControlPlaneClient
from scheduling.node_daemon.daemon import ExecutionNode
from scheduling.node_daemon.errors import NodeError
from scheduling.node_daemon.logs import LOG
from scheduling.wire.messages import Goodbye

FINISH_WITHIN_S = 3.0  #: for the last commits of portfolios that are not handed over
POLL_S = 0.02  #: interval of checks whether all portfolios are handed over


async def shut_down(node: ExecutionNode, client: ControlPlaneClient) -> None:
    """Hand portfolios over within `leave_within_s`; commit the work of the others; say goodbye.

    Heartbeats with `leaving` ask the server to move the portfolios: each runs here until its target
    is prepared. The goodbye releases those that remain; while moves are frozen, all remain.
    """
    LOG.info("leaving: handing portfolios over")
    node.leaving = True
    node.beat_soon()
    end = boottime_s() + node.config.leave_within_s
    while boottime_s() < end and not _is_handed_over(node):
        await asyncio.sleep(POLL_S)
    await _release_in_place(node)
    node.left = True  # a heartbeat after the goodbye would look like a daemon that came back
    try:
        await client.goodbye(Goodbye(incarnation=node.incarnation, reason="asked to stop"))
    except NodeError as error:
        LOG.warning("the goodbye was not delivered; the lease ends by itself: %s", error)


def _is_handed_over(node: ExecutionNode) -> bool:
    """Return whether the server knows that this node leaves, and no move is left to wait for.

    A portfolio that has moved stays in the desired set, as warm, until its target has committed. An
    entry to prepare is of a portfolio that runs elsewhere. With automatic moves frozen, none moves.
    """
    if not node.leaving_acknowledged.is_set() or node.desired is None:
        return False
    return node.desired.frozen or all(entry.role == "prepare" for entry in node.desired.entries)


async def _release_in_place(node: ExecutionNode) -> None:
    """Make the portfolios that run commit their finished work, within FINISH_WITHIN_S."""
    running = [hosted for hosted in node.hosted.values() if hosted.feeder is not None]
    if not running:
        return
    LOG.info("leaving: releasing %d portfolios in place", len(running))
    try:
        async with asyncio.timeout(FINISH_WITHIN_S):
            await asyncio.gather(*(hosted.finish() for hosted in running))
    except TimeoutError:
        LOG.warning("leaving: some last commits were not answered")
