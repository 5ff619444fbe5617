"""The clock of a database, set from inside: everything that asks it for the time hears another.

The functions of the system catalogue are changed, so nothing in the product knows of it, and all
processes that use the database are struck alike. Only a superuser can do this, and only to a
database that is thrown away.
"""

from __future__ import annotations

#: Statements that were prepared with the old function are parsed again, since the change of a
#: schema makes every session throw its plans away.
_PARSE_AGAIN = ("CREATE SCHEMA clock_was_set", "DROP SCHEMA clock_was_set")
_AWAY = "ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO clock_timestamp_true"
_BACK = "ALTER FUNCTION pg_catalog.clock_timestamp_true() RENAME TO clock_timestamp"

#: Its answer is 1 where the clock is set, else 0.
IS_SET = "SELECT count(*) FROM pg_catalog.pg_proc WHERE proname = 'clock_timestamp_true'"


def set_clock(off: str, *, again: bool) -> tuple[str, ...]:
    """Return statements that set `clock_timestamp()` off by this interval, an expression of SQL.

    `again`: it is set already, which `IS_SET` tells.
    """
    return (
        *(() if again else (_AWAY,)),
        "CREATE OR REPLACE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz"
        " LANGUAGE sql VOLATILE PARALLEL SAFE"
        f" AS $$ SELECT pg_catalog.clock_timestamp_true() + {off} $$",
        *_PARSE_AGAIN,
    )


def right_clock() -> tuple[str, ...]:
    """Return statements that let the clock answer the true time again."""
    return ("DROP FUNCTION pg_catalog.clock_timestamp()", _BACK, *_PARSE_AGAIN)
