"""Appends to feeds in streams by processes that come and go: web processes, commands, the worker.

Each takes a connection of its own, reads where the log is, stores, and lets the row in the database
follow before it answers. One that ends between the two has stored its append without releasing it:
the next append, the next recorder or the worker's next pass does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from asgiref.sync import async_to_sync, sync_to_async
from django.db import Error as DatabaseError

from portfolios.feeds.log import (
    Appended,
    HeadMoved,
    LogError,
    LogUnavailable,
    SourceConflict,
    SourceId,
    WriterReplaced,
)
from portfolios.feeds.rows import InstrumentFacts
from portfolios.models import FeedWriter
from portfolios.runtime.events import Event
from scheduling.db.transaction import (
    Transaction,
    execute_autocommit,
    execute_first_steps,
    undo_first_steps,
)
from scheduling.enact.feed_records import WriterRow
from scheduling.errors import Refused
from scheduling.recorded_feeds.reads import WHOLE_S, answered_within, nats_url

if TYPE_CHECKING:
    from scheduling.recorded_feeds.jetstream.mirrored_log import MirroredLog

logger = logging.getLogger(__name__)

T = TypeVar("T")

FOLLOW_S = 60.0  #: by the worker, which may have much to make up for

NOT_STORED = "nothing was appended."

#: What to append after a state, or the answer to an append that was stored before. It may refuse.
Decide = Callable[[WriterRow, dict[str, InstrumentFacts]], Sequence[Event] | Appended]


def append_in_stream(
    feed: str,
    decide: Decide,
    source: SourceId | None = None,
    *,
    tries: int,
    within_s: float = WHOLE_S,
) -> Appended:
    """Append the events that `decide` returns for the newest state, all or none. Raise Refused."""
    ends_s = time.monotonic() + within_s
    what_became = NOT_STORED  #: of the append, as the end of a sentence

    async def append(log: MirroredLog) -> Appended:
        nonlocal what_became
        held = await log.state(source)
        decided = decide(held, await log.instruments())
        if isinstance(decided, Appended):
            done = decided
        else:
            log.check_clock()
            if source is None:  # with a source id, a repeat is recognized
                await sync_to_async(execute_first_steps)()
            what_became = (
                "whether the append was stored is not known: repeat it with its source and number,"
                " or see the head of the feed."
            )
            done = await log.append(held.epoch, held.head, decided, source)
        what_became = "the append was stored, and is released once the database answers."
        await log.follow_now()
        return done

    for _ in range(tries):
        try:
            return _with_log(feed, append, ends_s - time.monotonic())
        except (HeadMoved, WriterReplaced):  # another append or a recorder came first
            what_became = NOT_STORED
        except SourceConflict as conflict:  # of another append of the source at once
            raise Refused("source_conflict", str(conflict)) from None
        except LogError as away:
            if what_became == NOT_STORED:
                _undo_first_steps()
            text = f"{away} {what_became.capitalize()}"
            raise Refused("feed_unavailable", text, status=503) from None
    _undo_first_steps()
    raise Refused(
        "feed_busy", f"Feed {feed} is appended to by many others at once; repeat.", status=503
    )


def _undo_first_steps() -> None:
    with suppress(psycopg.Error, DatabaseError):  # then a repeat is told that it may have acted
        undo_first_steps()


def release_in_stream(feed: str) -> bool:
    """Let any source append to a feed again. Return False if it has no recorder. Raise Refused."""

    async def release(log: MirroredLog) -> bool:
        held = await log.state(None)
        if held.writer:
            await log.replace_writer("", only_after=held.epoch)
        await log.follow_now()
        return bool(held.writer)

    try:
        return _with_log(feed, release, WHOLE_S)
    except WriterReplaced as replaced:  # the next recorder has just begun
        raise Refused("feed_busy", str(replaced)) from None
    except LogError as away:
        raise Refused("feed_unavailable", str(away), status=503) from None


def follow_streams() -> dict[str, str]:
    """Let the row of each feed in a stream follow, and drop messages that are kept no longer.

    Return what could not be done, by feed.
    """
    failed = {}
    rows = FeedWriter.objects.filter(in_stream=True).values_list("feed__name", "first_seq")
    for feed, first_seq in rows.order_by("?"):  # a failure may end the pass

        async def follow(log: MirroredLog, first_seq: int = first_seq) -> None:
            await log.follow_now()
            if first_seq > 1:
                await log.stream.drop_before(first_seq)

        try:
            _with_log(feed, follow, FOLLOW_S)
        except LogError as away:
            logger.warning("feed %s does not follow its stream: %s", feed, away)
            failed[feed] = str(away)
            if isinstance(away, LogUnavailable):
                break  # the other feeds are on the same server, and each would take as long
    return failed


def _with_log(
    feed: str, act: Callable[[MirroredLog], Coroutine[Any, Any, T]], within_s: float
) -> T:
    """Return what `act` does with the log, over a new connection. Raise LogError."""
    # The client of NATS takes 0.2 s to import: not at each start of an installation without it.
    from scheduling.recorded_feeds.jetstream.mirrored_log import MirroredLog
    from scheduling.recorded_feeds.jetstream.stream import Stream, connected

    async def run() -> T:
        async with answered_within(within_s), connected(nats_url()) as client:
            log = MirroredLog(Stream(client, feed), _database)
            await log.begin()
            return await act(log)

    return async_to_sync(run)()


async def _database(steps: Transaction[T]) -> T:
    """Run steps on the connection of the calling thread. Raise LogUnavailable."""
    try:
        return await sync_to_async(execute_autocommit)(steps)
    except (psycopg.Error, DatabaseError) as error:
        raise LogUnavailable("The database does not answer.") from error
