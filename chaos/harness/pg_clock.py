"""Set the clock of a database from inside, for all processes that use it.

`clock_timestamp()` is replaced in the system catalogue, so no product code is changed. This needs a
superuser, and a database that is discarded afterwards.
"""

from __future__ import annotations

#: A schema change makes every session discard its plans, so prepared statements are parsed again
#: with the new function.
_PARSE_AGAIN = ("CREATE SCHEMA clock_was_set", "DROP SCHEMA clock_was_set")
_RENAME_TRUE = "ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO clock_timestamp_true"
#: Statements that restore the true clock.
RESTORE = (
    "DROP FUNCTION pg_catalog.clock_timestamp()",
    "ALTER FUNCTION pg_catalog.clock_timestamp_true() RENAME TO clock_timestamp",
    *_PARSE_AGAIN,
)

#: Returns 1 if the clock is set, else 0.
IS_SET = "SELECT count(*) FROM pg_catalog.pg_proc WHERE proname = 'clock_timestamp_true'"


def set_clock(offset: str, *, is_set: bool) -> tuple[str, ...]:
    """Return statements that shift `clock_timestamp()` by `offset`, an SQL interval expression.

    `is_set`: whether the clock is set already, as `IS_SET` returns.
    """
    return (
        *(() if is_set else (_RENAME_TRUE,)),
        "CREATE OR REPLACE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz"
        " LANGUAGE sql VOLATILE PARALLEL SAFE"
        f" AS $$ SELECT pg_catalog.clock_timestamp_true() + {offset} $$",
        *_PARSE_AGAIN,
    )
