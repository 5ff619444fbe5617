"""What every session of the database needs, and which databases cannot give it.

The limits of a session are sent with the connection as startup options, which a pooler such as
PgBouncer drops. So each session sets them again by a statement. Its answer also tells whether there
is a pooler: then the server process that answers is not the one that was named at the connection.
A pooler has to keep a session on one server process (session mode): with any other mode, limits and
LISTEN are lost between two transactions without a word.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

OLDEST_VERSION = 15
#: The newest version of the server with which tests and installations have run.
NEWEST_VERSION = 18

SESSION_LIMITS: dict[str, str] = {
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
    # Off would lose an acknowledged epoch at a crash, and with it the fence.
    "synchronous_commit": "on",
    "timezone": "UTC",
    # The server gives up the session of a host without power after 25 s, and with it the locks that
    # last as long as a session. Linux alone waits two hours.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

#: A placeholder: each connection replaces it by a name that tells its process.
APPLICATION_NAME = "ginkgo"
_MAX_NAME = 63  #: bytes; the server cuts off the rest

#: A pooler that does not keep sessions may pass one probe by chance, three in a row hardly ever.
_PROBES = 3
POOLER_HELP = (
    "Set pool_mode = session and ignore_startup_parameters = extra_float_digits,options in "
    "pgbouncer.ini, or name the server itself in DATABASE_URL."
)

_process_kind = "command"


class DatabaseUnusable(psycopg.OperationalError):
    """The database answers, and Ginkgo cannot work with it. Waiting does not help."""


class Question(NamedTuple):
    """A statement for the new session, or for a second one beside it."""

    session: Literal["own", "second"]
    sql: str
    parameters: list[str]


def name_process(kind: str) -> None:
    """Set what this process is called in `pg_stat_activity`: web, watcher, worker …"""
    global _process_kind
    _process_kind = kind


def application_name(kind: str, host: str, pid: int) -> str:
    """Return the name of a connection. A host name that is too long loses its end."""
    start, end = f"{APPLICATION_NAME} {kind} ", f" {pid}"
    return start + host[: _MAX_NAME - len(start) - len(end)] + end


def name_option(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the option that names a connection; {} if `options` have a name from its address.

    Call it for each connection: the worker forks processes after the settings were read.
    """
    if options.get("application_name") != APPLICATION_NAME:
        return {}
    return {"application_name": application_name(_process_kind, socket.gethostname(), os.getpid())}


def limits_in(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the session limits among the startup options; of equal names the last one wins."""
    found = re.findall(r"-c (\w+)=(\S+)", str(options.get("options") or ""))
    return {name: value for name, value in found if name in SESSION_LIMITS}


def check_version(server_version: int, endpoint: tuple[str, str]) -> None:
    """Raise DatabaseUnusable if the server is too old. 0 is an unknown version."""
    if 0 < server_version < OLDEST_VERSION * 10_000:
        major, minor = divmod(server_version, 10_000)
        raise DatabaseUnusable(
            f"The database at {':'.join(endpoint)} is PostgreSQL {major}.{minor}, which is too old:"
            f" Ginkgo needs {OLDEST_VERSION} to {NEWEST_VERSION}. Upgrade the server."
        )


def check_refusal(error: psycopg.Error, options: Mapping[str, Any]) -> None:
    """Raise DatabaseUnusable if a connection failed because a pooler knows no startup options."""
    if "unsupported startup parameter" in str(error):
        raise DatabaseUnusable(
            f"PgBouncer at {options.get('host') or 'localhost'}:{options.get('port') or 5432} "
            f"refuses the time limits that Ginkgo sends with each connection. {POOLER_HELP}"
        ) from error


def find_unusable(error: BaseException | None) -> DatabaseUnusable | None:
    """Return the DatabaseUnusable that caused an error of Django or of a pool, or None."""
    while error is not None and not isinstance(error, DatabaseUnusable):
        error = error.__cause__ or error.__context__
    return error


#: Host and port of each pooler that was seen to keep a session on one server process.
_session_poolers: set[tuple[str, str]] = set()


async def begin_session(
    ask: Callable[[Question], Awaitable[Any]],
    limits: Mapping[str, str],
    named_pid: int,
    endpoint: tuple[str, str],
) -> None:
    """Set the limits; raise DatabaseUnusable behind a pooler that does not keep a session.

    `ask` returns the first row of an answer; `named_pid` is the server process that the connection
    named. If another one answers, there is a pooler. Then a second session begins a transaction,
    and so occupies a server process. Behind a pooler that keeps sessions, this session has the same
    server process before and after, and the second session never has that one.
    """
    columns = "".join(", set_config(%s, %s, false)" for _ in limits)
    parameters = [text for pair in limits.items() for text in pair]
    row = await ask(Question("own", f"SELECT pg_backend_pid(){columns}", parameters))
    if row[0] == named_pid or endpoint in _session_poolers:
        return
    try:
        for _ in range(_PROBES):
            (before,) = await ask(Question("own", "SELECT pg_backend_pid()", []))
            (beside,) = await ask(Question("second", "SELECT pg_backend_pid()", []))
            (after,) = await ask(Question("own", "SELECT pg_backend_pid()", []))
            if before != after or beside in (before, after):
                raise DatabaseUnusable(_pooler_sentence("transaction", endpoint))
            await ask(Question("second", "ROLLBACK", []))
    except psycopg.errors.ProtocolViolation as error:
        # In statement mode, PgBouncer refuses to begin a transaction.
        raise DatabaseUnusable(_pooler_sentence("statement", endpoint)) from error
    _session_poolers.add(endpoint)


def _pooler_sentence(mode: str, endpoint: tuple[str, str]) -> str:
    return (
        f"PgBouncer, or a pooler like it, at {':'.join(endpoint)} is in {mode} mode: time limits "
        f"and LISTEN do not survive from one transaction to the next. {POOLER_HELP}"
    )


def merged_options(conninfo: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a connection: those in its address, overridden by `options`."""
    return conninfo_to_dict(conninfo) | dict(options)
