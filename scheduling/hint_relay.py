"""Relay hints from PostgreSQL to the channel layer in Redis, beside the watcher's loop.

PostgreSQL sends hints with the changes that they announce; with Redis as channel layer, the sockets
of web processes wait for hints in Redis. Redis is on no critical path: a hint that does not get
through in time is dropped, and costs the seconds until the next heartbeat.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
import time
from typing import Any

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

#: At most so many hints wait. A further one is dropped: the next heartbeat would overtake it.
MAX_WAITING = 1_000
#: Seconds within which a hint has to be sent.
LIMIT_S = 0.2
#: Seconds between two log lines about dropped hints.
QUIET_S = 10.0


class HintRelay:
    """A thread that relays hints to the channel layer in Redis; `send` never waits."""

    def __init__(self, layer: Any = None) -> None:
        self.dropped = 0
        self._layer = layer
        self._waiting: queue.Queue[str] = queue.Queue(MAX_WAITING)
        self._logged_at = -QUIET_S  # so that the first dropped hint is logged
        # A daemon thread: hints that still wait when the process ends are of no use.
        threading.Thread(target=self._run, name="hint-relay", daemon=True).start()

    def send(self, payload: str) -> None:
        """Relay the payload of a notification, or drop it if too many wait."""
        try:
            self._waiting.put_nowait(payload)
        except queue.Full:
            self._drop("too many wait")

    def _run(self) -> None:
        layer = self._layer or get_channel_layer()
        with asyncio.Runner() as runner:  # one loop: the layer keeps its connection per loop
            while True:
                payload = self._waiting.get()
                try:
                    runner.run(_relay(layer, payload))
                except Exception as error:
                    self._drop(str(error) or type(error).__name__)

    def _drop(self, cause: str) -> None:
        self.dropped += 1
        if time.monotonic() - self._logged_at >= QUIET_S:
            self._logged_at = time.monotonic()
            logger.warning("%d hints were not relayed to Redis so far: %s", self.dropped, cause)


async def _relay(layer: Any, payload: str) -> None:
    """Send the hint in the JSON of a notification to the groups that it names."""
    hint = json.loads(payload)
    async with asyncio.timeout(LIMIT_S):
        for group in hint.get("groups", ()):
            await layer.group_send(group, hint["message"])
