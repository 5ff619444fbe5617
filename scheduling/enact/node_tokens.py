"""Look up the node of a token, and record when the token was last used."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query_one


class TokenRow(NamedTuple):
    id: int
    name: str
    revoked: bool
    expired: bool


#: The last use is written once a minute. If the row is locked, the next look-up writes it: no node
#: waits for an operator.
NODE_OF_TOKEN = Statement(
    "NODE_OF_TOKEN",
    """
WITH used AS (
    UPDATE scheduling_nodetoken u SET last_used_at = clock_timestamp()
    WHERE u.id = (
        SELECT t.id FROM scheduling_nodetoken t
        WHERE t.sha256 = %(sha256)s AND t.revoked_at IS NULL
        AND (t.last_used_at IS NULL OR t.last_used_at < clock_timestamp() - interval '1 minute')
        FOR NO KEY UPDATE SKIP LOCKED
    )
)
SELECT n.id, n.name, t.revoked_at IS NOT NULL AS revoked,
       coalesce(t.expires_at < clock_timestamp(), false) AS expired
FROM scheduling_nodetoken t JOIN scheduling_node n ON n.id = t.node_id
WHERE t.sha256 = %(sha256)s
""",
    row=TokenRow,
)


def node_of_token(sha256: str) -> Transaction[TokenRow | None]:
    """Return the node of a token, and whether the token is revoked or expired; None if unknown."""
    return (yield from query_one(NODE_OF_TOKEN, sha256=sha256))
