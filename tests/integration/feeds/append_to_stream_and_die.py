"""A writer that appends three bars to a stream and is killed at a point of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys


def die() -> None:
    """End this process as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


async def append(url: str, point: str, feed: str, epoch: int, expected: int, *given: str) -> None:
    """Append once."""
    from portfolios.feeds.log import SourceId
    from scheduling.recorded_feeds.jetstream.block import Block, encode_block
    from scheduling.recorded_feeds.jetstream.jetstream_log import JetStreamLog
    from scheduling.recorded_feeds.jetstream.stream import Stream, connected, subject
    from tests.integration.feeds.log_conformance import euros

    async with connected(url) as client:

        class Dying(Stream):
            async def publish(self, block: Block, last: int) -> int:
                if point == "before it is sent":
                    die()
                if point == "before it is answered":
                    headers = {"Nats-Expected-Last-Sequence": str(last)}
                    await client.publish(
                        subject(feed), encode_block(block), client.new_inbox(), headers
                    )
                    await client.flush()
                    die()
                await super().publish(block, last)
                die()
                return 0

        log = JetStreamLog(Dying(client, feed))
        await log.refresh()
        source, number, sha = given
        await log.append(epoch, expected, euros(expected, 3), SourceId(source, int(number), sha))


if __name__ == "__main__":
    address, where, name, at_epoch, after, *rest = sys.argv[1:]
    asyncio.run(append(address, where, name, int(at_epoch), int(after), *rest))
