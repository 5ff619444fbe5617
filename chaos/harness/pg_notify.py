"""What a database says to its listeners, changed from inside: pushes lost, repeated, out of order.

Nothing in the product knows of it, and all processes that use the database are struck alike.
"""

from __future__ import annotations

#: A new function takes the name over. Statements that were prepared with the old one are parsed
#: again, since the change of a schema makes every session throw its plans away.
_REPLACED = (
    "ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_heard",
    "CREATE SCHEMA silence",
    "CREATE TABLE silence.held (channel text, payload text)",
    # With the rights of its owner: the product may not write to what it holds back.
    "CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE plpgsql"
    " SECURITY DEFINER AS $${}$$",
)
LOSING = "BEGIN END"
#: The spaces keep PostgreSQL from taking them for one; whoever reads JSON does not see them.
REPEATING = """
BEGIN
    PERFORM pg_catalog.pg_notify_heard($1, $2);
    PERFORM pg_catalog.pg_notify_heard($1, $2 || ' ');
    PERFORM pg_catalog.pg_notify_heard($1, $2 || '  ');
END
"""
#: Each push waits until the next one has been sent.
REORDERING = """
DECLARE late record;
BEGIN
    DELETE FROM silence.held WHERE ctid = (
        SELECT ctid FROM silence.held LIMIT 1 FOR UPDATE SKIP LOCKED
    ) RETURNING channel, payload INTO late;
    IF FOUND THEN
        PERFORM pg_catalog.pg_notify_heard($1, $2);
        PERFORM pg_catalog.pg_notify_heard(late.channel, late.payload || ' ');
    ELSE
        INSERT INTO silence.held VALUES ($1, $2);
    END IF;
END
"""
_BACK = (
    "DROP SCHEMA silence CASCADE",
    "DROP FUNCTION pg_catalog.pg_notify(text, text)",
    "ALTER FUNCTION pg_catalog.pg_notify_heard(text, text) RENAME TO pg_notify",
)


def set_speech(body: str) -> tuple[str, ...]:
    """Return statements that let `pg_notify` do this instead: LOSING, REPEATING, REORDERING."""
    return tuple(statement.format(body) for statement in _REPLACED)


def right_speech() -> tuple[str, ...]:
    """Return statements that let `pg_notify` say everything again, once."""
    return _BACK
