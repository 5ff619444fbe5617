"""Leaving on SIGTERM: hand everything over, then release in place, then say goodbye."""

from __future__ import annotations

import asyncio

from scheduling.node_daemon.clock import boottime_s
from scheduling.node_daemon.control_plane_client import ControlPlaneClient
from scheduling.node_daemon.daemon import ExecutionNode
from scheduling.node_daemon.errors import NodeError
from scheduling.node_daemon.logs import LOG
from scheduling.wire.messages import Goodbye

FINISH_WITHIN_S = 3.0
POLL_S = 0.02


async def shut_down(node: ExecutionNode, client: ControlPlaneClient) -> None:
    """Return when nothing runs here any more, or when the time for it is over.

    Portfolios go make-before-break, for which the server is asked by beats that say `leaving`. What
    is left after that, or while automatic moves are frozen, is committed and released in place.
    """
    LOG.info("leaving: handing portfolios over")
    node.leaving = True
    node.beat_soon()
    end = boottime_s() + node.config.leave_within_s
    while boottime_s() < end and not _is_handed_over(node):
        await asyncio.sleep(POLL_S)
    await _release_in_place(node)
    node.left = True  # a beat behind the goodbye would look like a daemon that came back
    try:
        await client.goodbye(Goodbye(incarnation=node.incarnation, reason="asked to stop"))
    except NodeError as error:
        LOG.warning("no goodbye: %s", error)


def _is_handed_over(node: ExecutionNode) -> bool:
    """Return whether the server has heard that this node leaves, and nothing is left to hand over.

    Warm processes are waited for: their target may still fail.
    """
    if not node.leaving_acknowledged.is_set() or node.desired is None:
        return False
    return node.desired.frozen or all(e.role == "prepare" for e in node.desired.entries)


async def _release_in_place(node: ExecutionNode) -> None:
    running = [hosted for hosted in node.hosted.values() if hosted.feeder is not None]
    if not running:
        return
    LOG.info("leaving: %d portfolios are released in place", len(running))
    try:
        async with asyncio.timeout(FINISH_WITHIN_S):
            await asyncio.gather(*(hosted.finish() for hosted in running))
    except TimeoutError:
        LOG.warning("leaving: not every last commit was answered")
