"""From a database URL to Django's settings, and back to a libpq string.

Every session, Django's and the gateway's, carries the same limits, so no statement, lock or
forgotten transaction can hold up the fence for long. The server applies them; for a server that
does not answer at all see `deadline.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ginkgo_site.deadline import Connection, statement_limit
from ginkgo_site.sessions import APPLICATION_NAME, SESSION_LIMITS, DatabaseUnusable

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: Defaults that a URL may override. A host that drops packets is detected after 5 s if data is on
#: the way and after 9 s otherwise; the defaults of Linux are 15 minutes and two hours.
CONNECTION_DEFAULTS: dict[str, str] = {
    "application_name": APPLICATION_NAME,
    "connect_timeout": "2",
    "tcp_user_timeout": "5000",
    "keepalives_idle": "3",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}

#: Limits of sessions that create or migrate tables. On a slow machine a migration is idle between
#: two statements for longer than any commit may be, and an index over many rows takes minutes.
#: Waiting for a lock stays bounded, since every commit queues behind a migration that waits. The
#: bound is longer than the limits after which any other session gives up its locks.
PREPARATION_LIMITS: dict[str, str] = {
    "statement_timeout": "0",
    "lock_timeout": "40s",
    "idle_in_transaction_session_timeout": "0",
}


def django_database(url: str) -> dict[str, Any]:
    """Return Django's settings dictionary for the PostgreSQL at `url`."""
    parts: dict[str, Any] = dict(conninfo_to_dict(url))
    limits = " ".join(f"-c {name}={value}" for name, value in SESSION_LIMITS.items())
    # The URL may carry options as well. The last one wins, so these come last.
    parts["options"] = f"{parts.get('options') or ''} {limits}".strip()
    parts = CONNECTION_DEFAULTS | parts
    if "," in str(parts.get("host", "")):
        # Several hosts are a primary and its standbys; which is which changes with a promotion.
        parts.setdefault("target_session_attrs", "read-write")
    return {
        "ENGINE": "ginkgo_site.postgresql",
        "NAME": parts.pop("dbname"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": str(parts.pop("port", "")),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": parts,
        "TEST": {"NAME": None},
    }


def share_connections(database: dict[str, Any]) -> None:
    """Change Django's settings dictionary to take connections from a pool of this process.

    For the web process only: it runs each request in a separate thread, which would open a
    separate connection (measured: only 277 requests a second). A process that forks, like the
    queue worker, must not share a pool's sockets with its children.
    """
    from ginkgo_site.web.lane_sizes import CONNECTIONS

    database["CONN_MAX_AGE"] = 0
    database["CONN_HEALTH_CHECKS"] = False  # the backend checks what it takes, with a deadline
    database["OPTIONS"]["pool"] = {
        "min_size": 1,
        "max_size": CONNECTIONS,
        "timeout": 5,
        "connection_class": Connection,
    }


def prepare_statements(database: dict[str, Any]) -> None:
    """Change Django's settings dictionary: sessions prepare the statements that they repeat.

    Call it before the process connects. It is for a process that repeats a few statements for as
    long as it runs and renews their plans (`scheduling/db/kept_plans.py`). Django's own
    queries have their parameters in the text and are never prepared.
    """
    database["OPTIONS"]["prepare_threshold"] = 1


def lift_session_limits(database: dict[str, Any]) -> None:
    """Change Django's settings dictionary so that its sessions have the looser PREPARATION_LIMITS.

    Call it before the process connects. It is for a process that creates or migrates tables.
    """
    limits = " ".join(f"-c {name}={value}" for name, value in PREPARATION_LIMITS.items())
    database["OPTIONS"]["options"] += f" {limits}"  # the last one wins


@contextmanager
def without_session_limits(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Give the session of `connection` PREPARATION_LIMITS, and its own limits again afterwards.

    Inside, no statement has a deadline of this process either.
    """
    connection.ensure_connection()
    session, limits_before = connection.connection, {}
    with connection.cursor() as cursor:
        for name, value in PREPARATION_LIMITS.items():
            cursor.execute("SELECT current_setting(%s)", [name])
            limits_before[name] = cursor.fetchone()[0]
            cursor.execute("SELECT set_config(%s, %s, false)", [name, value])
    try:
        with statement_limit(None):
            yield
    finally:
        # A session that has ended or a failed transaction has dropped the limits already.
        is_open = connection.connection is session and not session.closed
        if is_open and not connection.needs_rollback:
            with connection.cursor() as cursor:
                # No RESET: behind a pooler the limits of this session are not its defaults.
                for name, value in limits_before.items():
                    cursor.execute("SELECT set_config(%s, %s, false)", [name, value])


def refuse_unusable_database() -> None:
    """End this process if the database answers but cannot be used. Ignore any other failure."""
    try:
        Connection.connect(conninfo()).close()
    except DatabaseUnusable as error:
        sys.exit(f"ginkgo: {error}")
    except psycopg.Error:
        pass


def conninfo() -> str:
    """Return the libpq string of Django's database, for connections that Django does not make.

    Taken from the live connection settings, so under test it names the test database.
    """
    from django.db import connections

    settings = connections["default"].settings_dict
    options = {k: v for k, v in settings["OPTIONS"].items() if k not in _OF_DJANGO}
    return make_conninfo(
        dbname=settings["NAME"],
        user=settings["USER"] or None,
        password=settings["PASSWORD"] or None,
        host=settings["HOST"] or None,
        port=settings["PORT"] or None,
        **options,
    )


#: OPTIONS may also hold keys that are Django's, not libpq's.
_OF_DJANGO = frozenset(
    {
        "assume_role",
        "cursor_factory",
        "isolation_level",
        "pool",
        "prepare_threshold",
        "server_side_binding",
    }
)
