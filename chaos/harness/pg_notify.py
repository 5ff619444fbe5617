"""Replace `pg_notify` inside a database: pushes lost, repeated, or out of order.

No product code is changed, and all processes that use the database are affected alike.
"""

from __future__ import annotations

#: A new function takes over the name. The schema change makes every session discard its plans, so
#: prepared statements are parsed again with the new function.
_REPLACE = (
    "ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_true",
    "CREATE SCHEMA chaos_pushes",
    "CREATE TABLE chaos_pushes.held (channel text, payload text)",
    # SECURITY DEFINER: the product's role may not write to the table of held pushes.
    "CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE plpgsql"
    " SECURITY DEFINER AS $${}$$",
)
LOSING = "BEGIN END"
#: The spaces keep PostgreSQL from merging equal payloads; JSON ignores them.
REPEATING = """
BEGIN
    PERFORM pg_catalog.pg_notify_true($1, $2);
    PERFORM pg_catalog.pg_notify_true($1, $2 || ' ');
    PERFORM pg_catalog.pg_notify_true($1, $2 || '  ');
END
"""
#: Each push is held until the next one has been sent.
REORDERING = """
DECLARE late record;
BEGIN
    DELETE FROM chaos_pushes.held WHERE ctid = (
        SELECT ctid FROM chaos_pushes.held LIMIT 1 FOR UPDATE SKIP LOCKED
    ) RETURNING channel, payload INTO late;
    IF FOUND THEN
        PERFORM pg_catalog.pg_notify_true($1, $2);
        PERFORM pg_catalog.pg_notify_true(late.channel, late.payload || ' ');
    ELSE
        INSERT INTO chaos_pushes.held VALUES ($1, $2);
    END IF;
END
"""
RESTORE = (
    "DROP SCHEMA chaos_pushes CASCADE",
    "DROP FUNCTION pg_catalog.pg_notify(text, text)",
    "ALTER FUNCTION pg_catalog.pg_notify_true(text, text) RENAME TO pg_notify",
)


def replace_pg_notify(body: str) -> tuple[str, ...]:
    """Return the SQL that gives `pg_notify` another body: LOSING, REPEATING or REORDERING."""
    return tuple(statement.format(body) for statement in _REPLACE)
