"""A program that appends three bars to a feed in a stream, as a web process does, and is killed.

It dies at a point of the append in the stream, or at the failpoint that its environment names.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from scheduling.recorded_feeds.jetstream.block import Block


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def append(url: str, point: str, feed: str, epoch: int, expected: int, *given: str) -> None:
    from portfolios.feeds.log import SourceId
    from scheduling.recorded_feeds.jetstream.block import encode_block
    from scheduling.recorded_feeds.jetstream.mirrored_log import MirroredLog, database_over
    from scheduling.recorded_feeds.jetstream.stream import Stream, connected, subject
    from tests.integration.feeds.append_and_die import connect
    from tests.integration.feeds.log_conformance import euros

    async with connected(url) as client:

        class Dying(Stream):
            async def publish(self, block: Block, last: int) -> tuple[int, Block]:
                if point == "before it is sent":
                    die()
                if point == "before it is answered":
                    headers = {"Nats-Expected-Last-Sequence": str(last)}
                    body = encode_block(block)
                    await client.publish(subject(feed), body, client.new_inbox(), headers)
                    await client.flush()
                    die()
                return await super().publish(block, last)

        log = MirroredLog(Dying(client, feed), database_over(feed, connect))
        await log.begin()
        source, number, sha = given
        await log.append(epoch, expected, euros(expected, 3), SourceId(source, int(number), sha))
        await log.follow_now()


if __name__ == "__main__":
    django.setup()
    address, where, name, at_epoch, after, *rest = sys.argv[1:]
    asyncio.run(append(address, where, name, int(at_epoch), int(after), *rest))
