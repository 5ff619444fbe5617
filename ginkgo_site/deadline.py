"""Client-side deadlines for database statements.

The server's own limits (`statement_timeout` and the rest) end with the server. A frozen server, or
one behind a network that drops packets, sends nothing; its kernel may still acknowledge what it is
sent, so no TCP option notices either, and a cancel request would hang in the same way. Therefore
one thread per process checks the statements in flight. When an answer is overdue it shuts down the
socket, which wakes up the waiting thread or event loop at once with `ServerSilent`.

    limit_statements(10)            the default of this process (none until it is called)
    with statement_limit(90): ...   another limit inside this context; None lifts it
    class Quick(Connection): limit_s = 3    a limit of this kind of connection

Maintenance commands set no limit: a migration may take as long as it needs.
"""

from __future__ import annotations

import math
import os
import select
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar, cast

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import tuple_row

from ginkgo_site.sessions import (
    Question,
    begin_session,
    check_refusal,
    check_version,
    limits_in,
    merged_options,
    name_option,
)

RV = TypeVar("RV")

TICK_S = 0.25  #: between two checks of the statements in flight
#: How long new connections try a silent host after all other hosts.
AVOID_S = 60.0
#: A silent host is tried by one connection in this time. The attempt waits two seconds for it, and
#: meanwhile does not see that another host is promoted.
RETRY_S = 4.0
#: A connection that took longer was delayed by a host that does not answer: a host that is down, or
#: not a primary, refuses at once.
SLOW_CONNECT_S = 1.5
#: A connection that was answered less than this long ago is handed out without a check.
FRESH_S = 1.0
CHECK_LIMIT_S = 1.0  #: for the answer to that check

_UNSET = -1.0  #: not None, which lifts the limit
_process_limit_s: float | None = None
_context_limit_s: ContextVar[float | None] = ContextVar("statement_limit_s", default=_UNSET)


class ServerSilent(psycopg.OperationalError):
    """The database sent no answer within the limit. Whether the statement ran is not known."""


def limit_statements(seconds: float | None) -> None:
    """Set this process's limit, for connections without a limit of their own; None: no limit."""
    global _process_limit_s
    _process_limit_s = seconds


@contextmanager
def statement_limit(seconds: float | None) -> Iterator[None]:
    """Apply this limit to every statement that this context sends; None: no limit."""
    token = _context_limit_s.set(seconds)
    try:
        yield
    finally:
        _context_limit_s.reset(token)


class _Wait:
    """One statement in flight. Its context raises ServerSilent if no answer comes in time."""

    __slots__ = ("_connection", "_limit_s", "fd", "shut", "ticks_left")

    def __init__(self, connection: _Limited, limit_s: float) -> None:
        self._connection, self._limit_s = connection, limit_s
        self.fd: int = connection.pgconn.socket  # type: ignore[attr-defined]
        # Ticks, not a clock: while this process is frozen, no answer becomes overdue. One tick
        # more, since the first may come at once.
        self.ticks_left = 1 + math.ceil(limit_s / TICK_S)
        self.shut = False

    def __enter__(self) -> None:
        _watchdog.add(self)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _watchdog.remove(self)
        if error is None:
            self._connection.answered_at = time.monotonic()
        elif isinstance(error, psycopg.Error):
            if self.shut:
                raise self._connection._note_silence(self._limit_s) from None
            self._connection._stop_prepared_statements_if_outdated(error)


class _Watchdog:
    """The statements in flight, and the thread that checks them, started by the first one."""

    def __init__(self) -> None:
        self._start_empty()
        # A forked child has no such thread, and would inherit a lock that may be held.
        os.register_at_fork(after_in_child=self._start_empty)

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._waits: set[_Wait] = set()
        self._thread: threading.Thread | None = None

    def add(self, wait: _Wait) -> None:
        with self._lock:
            self._waits.add(wait)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()

    def remove(self, wait: _Wait) -> None:
        """Forget the wait. The file descriptor is not touched afterwards and may be reused."""
        with self._lock:
            self._waits.discard(wait)

    def _run(self) -> None:
        """Count down the waits, and shut down the socket of each that is overdue. Never returns."""
        while True:
            time.sleep(TICK_S)
            with self._lock:
                for wait in self._waits:
                    wait.ticks_left -= 1
                    # An answer that arrived and was not read yet is a delay of this process.
                    if wait.ticks_left <= 0 and not wait.shut and not _is_readable(wait.fd):
                        wait.shut = True
                        _shut_down(wait.fd)


_watchdog = _Watchdog()


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _shut_down(fd: int) -> None:
    # A duplicate, since libpq closes its own descriptor. OSError: the peer was faster.
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


class _Limited:
    """The deadlines of connections, of those that block and those on an event loop."""

    limit_s: float | None = None
    answered_at: float
    silent = False  #: True: closed because the server did not answer

    def _limit(self) -> float | None:
        """Return the limit of a statement that is sent now, in seconds; None: no limit."""
        limit_s = _context_limit_s.get()
        if limit_s != _UNSET:
            return limit_s
        return _process_limit_s if self.limit_s is None else self.limit_s

    def _endpoint(self) -> tuple[str, str]:
        """Return host and port of the database server."""
        info = self.info  # type: ignore[attr-defined]
        return info.host, str(info.port)

    def _note_silence(self, limit_s: float) -> ServerSilent:
        """Note that the host is silent. Return the error for the statement that waited."""
        self.silent = True
        host, port = self._endpoint()
        _hosts.note_silence(host, port)
        return ServerSilent(
            f"The database at {host}:{port} did not answer within {limit_s:g} s; this connection "
            "was closed."
        )

    @property
    def is_fresh(self) -> bool:
        """True if the server answered on this connection recently and has not ended it since.

        A server that ends a connection sends a last message or an end of file, so there is
        something to read although no statement waits for an answer.
        """
        pgconn = self.pgconn  # type: ignore[attr-defined]
        return time.monotonic() - self.answered_at < FRESH_S and not _is_readable(pgconn.socket)

    def _stop_prepared_statements_if_outdated(self, error: psycopg.Error) -> None:
        """Prepare no more statements on this connection once a migration has outdated one.

        A prepared statement fails at each execution after the type of one of its columns has
        changed ("cached plan must not change result type"). Its sender repeats it, as after any
        failure.
        """
        if isinstance(error, psycopg.errors.FeatureNotSupported):
            self.prepare_threshold: int | None = None


#: `_run_blocking` or `_run_on_loop`: makes one call of psycopg for a connection of that kind.
_Run = Callable[[Callable[[], Any]], Awaitable[Any]]


async def _run_blocking(call: Callable[[], Any]) -> Any:
    """Make a call of a connection that blocks. Never suspends."""
    return call()


async def _run_on_loop(call: Callable[[], Any]) -> Any:
    """Make a call of a connection on an event loop."""
    return await call()


async def _connect(
    run: _Run, connect: Callable[..., Any], conninfo: str, options: dict[str, Any]
) -> Any:
    """Return a new connection, with session limits. Raise DatabaseUnusable, or psycopg's error.

    `run` makes each call of psycopg; with `_run_blocking` this never suspends.
    """
    merged = merged_options(conninfo, options)
    tried, began = _hosts.order(merged), time.monotonic()
    options |= name_option(merged) | tried
    try:
        connection = await run(partial(connect, conninfo, **options))
    except psycopg.OperationalError as error:
        _hosts.note_attempt(tried, None, time.monotonic() - began)
        check_refusal(error, merged)
        raise
    connection.answered_at = time.monotonic()
    _hosts.note_attempt(tried, connection._endpoint(), connection.answered_at - began)
    try:
        check_version(connection.info.server_version, connection._endpoint())
        if limits := limits_in(merged):
            connect_second = partial(connect, conninfo, **(options | {"autocommit": False}))
            await _set_session_limits(run, connection, limits, connect_second)
    except BaseException:
        await run(connection.close)
        raise
    return connection


async def _set_session_limits(
    run: _Run, own: Any, limits: dict[str, str], connect_second: Callable[[], Any]
) -> None:
    """Run `begin_session` on the new connection `own`; `run` makes each call of psycopg.

    Behind a pooler, `begin_session` asks some questions on a second session, to see whether the
    pooler keeps sessions. `connect_second` opens it for the first of them; it is closed afterwards.
    """
    had_autocommit: bool = own.autocommit
    second: Any = None

    async def ask(question: Question) -> Any:
        """Return the first row of the answer, None if it has no rows."""
        nonlocal second
        if question.session == "second" and second is None:
            second = await run(connect_second)
        asked = own if question.session == "own" else second
        cursor = asked.cursor(row_factory=tuple_row)
        await run(partial(cursor.execute, question.sql.encode(), question.parameters or None))
        return await run(cursor.fetchone) if cursor.description else None

    await run(partial(own.set_autocommit, True))
    try:
        await begin_session(ask, limits, own.info.backend_pid, own._endpoint())
        await run(partial(own.set_autocommit, had_autocommit))
    finally:
        if second is not None:
            await run(second.close)


class Connection(psycopg.Connection[Any], _Limited):
    """A psycopg connection whose statements have a deadline."""

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Connection:  # type: ignore[override]
        """Connect to the first host that accepts.

        Hosts that fell silent lately come last; all but one attempt in RETRY_S leave them out.
        """
        try:
            # It never suspends, so its first step runs to the end.
            _connect(_run_blocking, super().connect, conninfo, options).send(None)
        except StopIteration as done:
            return cast(Connection, done.value)
        raise AssertionError("Connection.connect awaited an event loop: a defect to report")

    def wait(self, gen: PQGen[RV], *args: Any, **options: Any) -> RV:
        """Wait for the answer, no longer than the limit. Raises `ServerSilent`."""
        limit_s = self._limit()
        # With a timeout it is a wait for notifications, which ends by itself.
        if limit_s is None or options.get("timeout") is not None:
            return super().wait(gen, *args, **options)
        with _Wait(self, limit_s):
            return super().wait(gen, *args, **options)

    def check(self) -> None:
        """Raise OperationalError unless the server has just answered, or answers in time."""
        if not self.is_fresh:
            with statement_limit(CHECK_LIMIT_S):
                self.execute("")


class AsyncConnection(psycopg.AsyncConnection[Any], _Limited):
    """A psycopg connection on an event loop whose statements have a deadline."""

    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", **options: Any
    ) -> AsyncConnection:
        """Connect to the first host that accepts.

        Hosts that fell silent lately come last; all but one attempt in RETRY_S leave them out.
        """
        connection = await _connect(_run_on_loop, super().connect, conninfo, options)
        return cast(AsyncConnection, connection)

    async def wait(self, gen: PQGen[RV], *args: Any, **options: Any) -> RV:
        """Wait for the answer, no longer than the limit. Raises `ServerSilent`."""
        limit_s = self._limit()
        if limit_s is None or options.get("timeout") is not None:
            return await super().wait(gen, *args, **options)
        with _Wait(self, limit_s):
            return await super().wait(gen, *args, **options)

    async def check(self) -> None:
        """Raise OperationalError unless the server has just answered, or answers in time."""
        if not self.is_fresh:
            with statement_limit(CHECK_LIMIT_S):
                await self.execute("")


class _Hosts:
    """The hosts that fell silent a moment ago.

    A connection attempt to a silent host costs the whole `connect_timeout`. If a database URL names
    several hosts, the others are tried first, and most attempts leave the silent one out.
    """

    def __init__(self) -> None:
        self._silent_at: dict[tuple[str, str], float] = {}
        self._asked_at: dict[tuple[str, str], float] = {}  #: when a silent host was last tried

    def note_silence(self, host: str, port: str) -> None:
        self._silent_at[host, port] = time.monotonic()

    def note_answer(self, host: str, port: str) -> None:
        self._silent_at.pop((host, port), None)
        self._asked_at.pop((host, port), None)

    def note_attempt(
        self, tried: dict[str, str], to: tuple[str, str] | None, took_s: float
    ) -> None:
        """Note which hosts of `tried` answered an attempt that connected to `to` (None: it failed).

        `tried` is the lists that `order` returned. If the attempt was quick, the hosts before `to`
        answered too, by a refusal.
        """
        for pair in zip(*(values.split(",") for values in tried.values()), strict=True):
            if pair == to or took_s < SLOW_CONNECT_S:
                self.note_answer(*pair)
            # If the attempt failed slowly, only hosts that were silent before count as silent.
            elif to is not None or pair in self._silent_at:
                self.note_silence(*pair)
            if pair == to:
                return

    def order(self, options: dict[str, Any]) -> dict[str, str]:
        """Return the `host` and `port` to connect with: comma-separated, in the order to try.

        {} if the given ones stay as they are: there is only one host, or `hostaddr` is set. Silent
        hosts come last. For RETRY_S, later attempts leave out the silent hosts that this one tries,
        unless all hosts are silent.
        """
        hosts = str(options.get("host") or "").split(",")
        if len(hosts) < 2 or options.get("hostaddr"):
            return {}
        ports = str(options.get("port") or "").split(",")
        if len(ports) == 1:
            ports *= len(hosts)  # one port for all hosts
        pairs = [(host, port or "5432") for host, port in zip(hosts, ports, strict=False)]
        now = time.monotonic()
        silent = {pair for pair in pairs if now - self._silent_at.get(pair, -math.inf) < AVOID_S}
        retried = [
            pair
            for pair in pairs
            if pair in silent and now - self._asked_at.get(pair, -math.inf) >= RETRY_S
        ]
        self._asked_at |= dict.fromkeys(retried, now)  # attempts begun meanwhile leave them out
        tried = [pair for pair in pairs if pair not in silent] + retried
        tried = tried or pairs  # all of them, if all are silent and none is due
        return {
            "host": ",".join(host for host, _ in tried),
            "port": ",".join(port for _, port in tried),
        }


_hosts = _Hosts()
