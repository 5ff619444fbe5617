"""Roles and ownership inside the embedded server.

`ginkgo` owns the database and is not a superuser; `postgres` is one. Installations of earlier
releases, where `ginkgo` was the superuser, are converted at their next start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

OWNER, SUPERUSER, UPGRADER = "ginkgo", "postgres", "ginkgo_upgrade"

#: Connects to a database as a role.
Connect = Callable[[str, str], psycopg.Connection]

_DATABASE_OWNER = """
    SELECT r.rolname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
    WHERE d.datname = current_database()
"""

#: Returns the statements that give `ginkgo` everything of the installation, except sequences of
#: columns, which follow their tables.
_OWNED = """
    SELECT format('ALTER %s %I.%I OWNER TO ginkgo',
                  CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW'
                                 WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END,
                  n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i'))
    UNION ALL
    SELECT format('ALTER ROUTINE %s OWNER TO ginkgo', p.oid::regprocedure)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    UNION ALL
    SELECT format('ALTER SCHEMA %I OWNER TO ginkgo', n.nspname)
    FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')
"""


def create_database(connect: Connect) -> None:
    """Create the role and the database `ginkgo` where they are missing."""
    with _as_superuser(connect) as db:
        if db.execute("SELECT 1 FROM pg_roles WHERE rolname = 'ginkgo'").fetchone() is None:
            # pg_monitor lets the role read sizes for metrics.
            db.execute("CREATE ROLE ginkgo LOGIN IN ROLE pg_monitor")
        if db.execute("SELECT 1 FROM pg_database WHERE datname = 'ginkgo'").fetchone() is None:
            db.execute("CREATE DATABASE ginkgo OWNER ginkgo")


def take_ownership(connect: Connect) -> None:
    """Give the database and all in it to `ginkgo`, in one transaction, unless it is the owner."""
    with connect("ginkgo", SUPERUSER) as db:
        owner = db.execute(_DATABASE_OWNER).fetchone()
        if owner is not None and owner[0] == OWNER:
            return
        with db.transaction():
            for (statement,) in db.execute(_OWNED).fetchall():
                db.execute(statement)
            db.execute("ALTER DATABASE ginkgo OWNER TO ginkgo")
        db.execute(f"DROP ROLE IF EXISTS {UPGRADER}")  # made by `_rename_superuser`


@contextmanager
def _as_superuser(connect: Connect) -> Iterator[psycopg.Connection]:
    """Connect as `postgres`. In a home of an earlier release, `ginkgo` is renamed to it first."""
    try:
        db = connect("postgres", SUPERUSER)
    except psycopg.OperationalError as error:
        if f'role "{SUPERUSER}" does not exist' not in str(error):
            raise
        _rename_superuser(connect)
        db = connect("postgres", SUPERUSER)
    with db:
        yield db


def _rename_superuser(connect: Connect) -> None:
    """Rename `ginkgo`, with which initdb made the data directory, by a session of a third role.

    The role of initdb cannot lose its superuser rights, and no session can rename its own role. If
    this is interrupted, the next start repeats it.
    """
    with connect("postgres", OWNER) as db:
        made = db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [UPGRADER]).fetchone()
        if made is None:
            db.execute(f"CREATE ROLE {UPGRADER} LOGIN SUPERUSER")
    with connect("postgres", UPGRADER) as db:
        db.execute(f"ALTER ROLE {OWNER} RENAME TO {SUPERUSER}")
