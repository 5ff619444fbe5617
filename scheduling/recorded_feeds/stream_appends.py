"""Appends to feeds in streams by processes that come and go: web processes, commands, the worker.

Each append takes a connection of its own, reads the state of the log, stores the records, and lets
the row in the database follow before it answers. A process that ends before the row has followed
has stored its append without releasing it: the next append, the next recorder or the worker's next
pass releases it.
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
from scheduling.recorded_feeds.reads import OPERATION_LIMIT_S, answered_within, nats_url

if TYPE_CHECKING:
    from scheduling.recorded_feeds.jetstream.mirrored_log import MirroredLog

logger = logging.getLogger(__name__)

T = TypeVar("T")

FOLLOW_S = 60.0  #: for one feed in the worker's pass, which may have to read many messages

NOT_STORED = "nothing was appended."


class MayBeStored(Refused):
    """A refusal of an append that was stored, or may have been."""


#: Return what to append after a state, or the answer to an append that was stored before. May raise
#: Refused.
Decide = Callable[[WriterRow, dict[str, InstrumentFacts]], Sequence[Event] | Appended]


def append_in_stream(
    feed: str,
    decide: Decide,
    source: SourceId | None = None,
    *,
    tries: int,
    within_s: float = OPERATION_LIMIT_S,
) -> Appended:
    """Append the events that `decide` returns for the newest state, all or none.

    It may also return an Appended, if they were stored by an earlier request.

    If another append comes first, `decide` is called again, up to `tries` times in all. Raise
    Refused, with a sentence that says whether anything was stored.
    """
    ends_s = time.monotonic() + within_s
    outcome = NOT_STORED  #: what became of the append, in words

    async def append(log: MirroredLog) -> Appended:
        nonlocal outcome
        state = await log.state(source)
        decided = decide(state, await log.instruments())
        if isinstance(decided, Appended):  # a repeat
            done = decided
        else:
            log.check_clock()
            # They store the idempotency key; with a source, the log itself recognizes a repeat.
            if source is None:
                await sync_to_async(execute_first_steps)()
            outcome = (
                "whether the append was stored is not known: repeat it with its source and number,"
                " or see the head of the feed."
            )
            done = await log.append(state.epoch, state.head, decided, source)
        outcome = "the append was stored, and is released once the database answers."
        await log.follow_now()
        return done

    for _ in range(tries):
        try:
            return _with_log(feed, append, ends_s - time.monotonic())
        except (HeadMoved, WriterReplaced):  # another append or a recorder came first
            outcome = NOT_STORED
        except SourceConflict as conflict:  # with an append of the same source at the same time
            raise Refused("source_conflict", str(conflict)) from None
        except LogError as error:
            refusal: type[Refused] = MayBeStored
            if outcome == NOT_STORED:
                _undo_first_steps()
                refusal = Refused
            text = f"{error} {outcome.capitalize()}"
            raise refusal("feed_unavailable", text, status=503) from None
    _undo_first_steps()
    raise Refused(
        "feed_busy",
        f"Nothing was appended to feed {feed}: other appends came first {tries} times. Repeat the "
        "append.",
        status=503,
    )


def _undo_first_steps() -> None:
    """Undo what the request stored before its append, so that a repeat of the request acts."""
    with suppress(psycopg.Error, DatabaseError):  # a repeat is then told that it may have acted
        undo_first_steps()


def release_in_stream(feed: str) -> bool:
    """Let any source append to a feed again. Return False if it had no writer. Raise Refused."""

    async def release(log: MirroredLog) -> bool:
        state = await log.state(None)
        if state.writer:
            await log.replace_writer("", only_after=state.epoch)
        await log.follow_now()
        return bool(state.writer)

    try:
        return _with_log(feed, release, OPERATION_LIMIT_S)
    except WriterReplaced as replaced:  # the next recorder has just begun
        raise Refused("feed_busy", str(replaced)) from None
    except LogError as error:
        raise Refused("feed_unavailable", str(error), status=503) from None


def follow_streams() -> dict[str, str]:
    """Let the row of each feed catch up with its stream; drop messages that are kept no longer.

    Return feed → why its row does not follow, of the feeds that failed. After one for which a
    server does not answer, the others wait for the next pass.
    """
    failed = {}
    rows = FeedWriter.objects.filter(in_stream=True).values_list("feed__name", "first_seq")
    # In random order: a failure may end the loop, and must not leave out the same feeds each time.
    for feed, first_seq in rows.order_by("?"):

        async def follow(log: MirroredLog, first_seq: int = first_seq) -> None:
            await log.follow_now()
            if first_seq > 1:
                await log.stream.drop_before(first_seq)

        try:
            _with_log(feed, follow, FOLLOW_S)
        except LogError as error:
            logger.warning("feed %s: the database does not follow its stream: %s", feed, error)
            failed[feed] = str(error)
            if isinstance(error, LogUnavailable):
                break  # the other feeds are on the same server, and each would take as long
    return failed


def _with_log(
    feed: str, act: Callable[[MirroredLog], Coroutine[Any, Any, T]], within_s: float
) -> T:
    """Return what `act` returns for the log of a feed, over a new connection to NATS.

    Raise LogError, also if it takes longer than `within_s`.
    """
    # Imported here: the NATS client takes 0.2 s to import, for nothing if no feed is in a stream.
    from scheduling.recorded_feeds.jetstream.mirrored_log import MirroredLog
    from scheduling.recorded_feeds.jetstream.stream import Stream, connected

    async def run() -> T:
        async with answered_within(within_s), connected(nats_url()) as client:
            log = MirroredLog(Stream(client, feed), _run_in_database)
            await log.begin()
            return await act(log)

    return async_to_sync(run)()


async def _run_in_database(steps: Transaction[T]) -> T:
    """Run steps on the connection of the calling thread. Raise LogUnavailable."""
    try:
        return await sync_to_async(execute_autocommit)(steps)
    except (psycopg.Error, DatabaseError) as error:
        raise LogUnavailable("The database does not answer.") from error
