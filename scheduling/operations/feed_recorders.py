"""Record a feed from files or a websocket until the process is asked to end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from django.db import connection

from portfolios.feeds.columns import FIELDS
from portfolios.feeds.log import LogError
from portfolios.feeds.messages import MessageLayout
from portfolios.feeds.rows import UNITS_US
from portfolios.models import FeedRow
from portfolios.validation import error
from scheduling import systemd
from scheduling.db.transaction import execute
from scheduling.enact import feed_records
from scheduling.enact.audit_log import audit
from scheduling.errors import Invalid, Refused
from scheduling.operations.feed_imports import read_time_form
from scheduling.operations.feeds import find_feed
from scheduling.operations.secrets import read_secret
from scheduling.recorded_feeds.jetstream.mirrored_log import MirroredLog, database_over
from scheduling.recorded_feeds.jetstream.stream import Stream, connected
from scheduling.recorded_feeds.postgres_log import PostgresLog
from scheduling.recorded_feeds.reads import nats_url
from scheduling.recorded_feeds.recorder import LogWithInstruments, Recorded, Recorder
from scheduling.recorded_feeds.recorder_session import RecorderSession
from scheduling.recorded_feeds.sources.base import FileLayout, Source, SourceLost
from scheduling.recorded_feeds.sources.files import FileSource
from scheduling.recorded_feeds.sources.websocket import Subscription, WebsocketSource
from scheduling.recorded_feeds.stream_appends import release_in_stream

SECRET = re.compile(r"\{secret:([a-z0-9-]{1,80})\}")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: What a row may have beside the columns of a CSV file.
MESSAGE_FIELDS = (*FIELDS, "kind", "from", "to")
#: Field of the plan → its option, for options that only one of the two kinds of sources obeys.
OF_FILES = {name: f"--{name.replace('_', '-')}" for name in (
    "pattern", "from_start", "time_zone", "time_format",
)}  # fmt: skip
OF_WEBSOCKETS = {name: f"--{name.replace('_', '-')}" for name in (
    "send", "rows", "only", "arrival_times", "number", "number_per_symbol", "numbers_restart",
)} | {"headers": "--header"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """What to record, and how its rows are read. Either `files` or `websocket` is given."""

    feed: str
    files: str = ""  #: a file or a folder
    pattern: str = "*"  #: of the names of files in the folder
    from_start: bool = False  #: begin at the first line of a file that replaced the recorded one
    time_zone: str = ""  #: of times that have none
    time_format: str = ""  #: of times that are not ISO 8601
    websocket: str = ""  #: its address
    send: Sequence[str] = ()  #: texts to send first; see `Subscription`
    headers: Mapping[str, str] = field(default_factory=dict)  #: of the request
    #: These seven are described at `MessageLayout` and `Subscription`.
    rows: str = ""
    only: Mapping[str, str] = field(default_factory=dict)
    time_unit: str = ""
    arrival_times: bool = False
    number: str = ""
    number_per_symbol: bool = False
    numbers_restart: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)  #: field → header or path
    symbol: str = ""  #: of every row; empty: each row has its own
    skip_bad: bool = False  #: leave out wrong rows of a file instead of ending
    tick_every_s: float | None = None  #: record the time so often while no row comes
    take_over: bool = False  #: begin although another recorder seems to run


def record(plan: RecordingPlan, *, actor: str) -> Recorded:
    """Record until SIGTERM or SIGINT, and return what was recorded.

    Raise Invalid for a wrong plan, NotFound or Refused for the feed, and Refused if the source or
    the feed's log fails; what was read before stays stored.
    """
    errors = _plan_errors(plan)
    if errors:
        raise Invalid(errors)
    feed = find_feed(plan.feed)
    source = _websocket_source(plan) if plan.websocket else _file_source(plan)
    writer = f"{socket.gethostname()}:{os.getpid()} ({actor})"[:150]
    execute(audit("feed_recording", actor=actor, feed=plan.feed, writer=writer))
    connection.close()  # it would be idle for as long as the recording lasts, perhaps days
    try:
        done = asyncio.run(_record(plan, feed, source, writer))
    except SourceLost as lost:
        raise Refused("source_lost", str(lost)) from None
    except LogError as refused:
        raise Refused("not_recorded", str(refused)) from None
    execute(audit("feed_recording_ended", actor=actor, feed=plan.feed, rows=done.rows))
    return done


def release_feed(name: str, *, actor: str) -> None:
    """Let any source append to a feed whose recorder ended without releasing the feed.

    Raise NotFound, or Refused for a packaged feed and for one without a recorder.
    """
    if find_feed(name).writer.in_stream:
        released = release_in_stream(name)
    else:
        released = execute(feed_records.release(name))
    if not released:
        raise Refused(
            "no_writer",
            f"Feed {name} need not be released: no recorder writes it, so any source may append.",
        )
    execute(audit("feed_released", actor=actor, feed=name))


async def _record(plan: RecordingPlan, feed: FeedRow, source: Source, writer: str) -> Recorded:
    """Record until SIGTERM or SIGINT, and return what was recorded.

    Meanwhile keep the database session and systemd's watchdog from timing out.
    """
    session = RecorderSession(plan.feed, feed.pk, take_over=plan.take_over)
    loop = asyncio.get_running_loop()
    background = [
        asyncio.create_task(systemd.tell_alive()),
        asyncio.create_task(session.keep_alive()),
    ]
    try:
        async with log_of(feed, session) as log:
            recorder = Recorder(
                log, source, writer, skip_bad=plan.skip_bad, tick_s=plan.tick_every_s
            )
            for signal_number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(signal_number, recorder.end)
            return await recorder.run()
    finally:
        for task in background:
            task.cancel()
        await session.close()


@asynccontextmanager
async def log_of(feed: FeedRow, session: RecorderSession) -> AsyncIterator[LogWithInstruments]:
    """Open the log of a feed for the block, in the database or in a stream.

    Raise LogUnavailable if the feed is in a stream whose server does not answer.
    """
    if not feed.writer.in_stream:
        yield PostgresLog(feed.name, session.connect)
        return
    async with connected(nats_url(), is_lasting=True) as client:
        yield MirroredLog(Stream(client, feed.name), database_over(feed.name, session.connect))


def _file_source(plan: RecordingPlan) -> FileSource:
    times = read_time_form(plan.time_zone, plan.time_format, plan.time_unit)
    layout = FileLayout(plan.columns, plan.symbol, times)
    return FileSource(Path(plan.files), layout, pattern=plan.pattern, from_start=plan.from_start)


def _websocket_source(plan: RecordingPlan) -> WebsocketSource:
    layout = MessageLayout(
        fields=plan.columns,
        rows=plan.rows,
        only=plan.only,
        symbol=plan.symbol,
        time_unit=plan.time_unit,
        arrival_times=plan.arrival_times,
        number=plan.number,
    )
    subscription = Subscription(
        url=_with_secrets(plan.websocket, plan),
        send=[_with_secrets(text, plan) for text in plan.send],
        headers={name: _with_secrets(text, plan) for name, text in plan.headers.items()},
        per_symbol=plan.number_per_symbol,
        numbers_restart=plan.numbers_restart,
    )
    return WebsocketSource(subscription, layout)


def _with_secrets(text: str, plan: RecordingPlan) -> str:
    """Return the text with `{secret:NAME}` replaced by the value of each secret.

    Raise Invalid if it would be sent unencrypted to another host, NotFound or SecretUnreadable.
    """
    parts = urlsplit(plan.websocket)
    if SECRET.search(text) and parts.scheme != "wss" and parts.hostname not in LOOPBACK:
        message = "A secret is only sent over wss://; ws:// would show it to the network."
        raise Invalid([error("websocket", "not_encrypted", message)])
    used_by = f"recorder of feed {plan.feed}"
    return SECRET.sub(lambda found: read_secret(found[1], used_by=used_by), text)


def _plan_errors(plan: RecordingPlan) -> list[dict[str, str]]:
    errors = []
    if bool(plan.files) == bool(plan.websocket):
        errors.append(error("file", "required", "give either --file or --websocket."))
    else:
        errors += _misplaced(plan)
    if plan.websocket:
        parts = urlsplit(plan.websocket)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            # Without the address itself, which may hold a password.
            message = (
                f"--websocket, of scheme {parts.scheme!r}, is not an address such as"
                " wss://host/path."
            )
            errors.append(error("websocket", "invalid", message))
    if plan.websocket and plan.time_unit and plan.time_unit not in UNITS_US:
        message = f"--time-unit is {plan.time_unit!r}; give one of {', '.join(UNITS_US)}."
        errors.append(error("time_unit", "invalid", message))
    if plan.tick_every_s is not None and not 0.1 <= plan.tick_every_s <= 86_400:
        message = f"--tick-every is {plan.tick_every_s}; give 0.1 to 86,400 seconds."
        errors.append(error("tick_every", "out_of_range", message))
    known = MESSAGE_FIELDS if plan.websocket else FIELDS
    for name in plan.columns:
        if name not in known:
            message = f"--column names {name!r}; the fields are {', '.join(known)}."
            errors.append(error("column", "invalid", message))
    return errors


def _misplaced(plan: RecordingPlan) -> list[dict[str, str]]:
    """Return an error for each option that the kind of source would not obey."""
    others, kind = (OF_FILES, "files") if plan.websocket else (OF_WEBSOCKETS, "a websocket")
    default = RecordingPlan(plan.feed)
    return [
        error(name, "not_applicable", f"{option} is for {kind}: leave it out.")
        for name, option in others.items()
        if getattr(plan, name) not in (getattr(default, name), [])  # [] as the command gives it
    ]
