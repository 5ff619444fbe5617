"""Tokens of nodes and users: find the owner of a token, record its use, revoke it."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.enact.audit_log import Line, audit_all


class TokenRow(NamedTuple):
    id: int  #: of the node, as the name
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
    """Record the use of a node's token. Return its node and validity; None: no such token."""
    return (yield from query_one(NODE_OF_TOKEN, sha256=sha256))


#: Concurrent writer: another request with this token. The later time stays.
USE_API_TOKEN = Statement(
    "USE_API_TOKEN",
    """
UPDATE scheduling_apitoken SET last_used_at = clock_timestamp()
WHERE id = %(token)s AND (last_used_at IS NULL
    OR last_used_at < clock_timestamp() - interval '1 minute')
""",
)


def use_api_token(token: int) -> Transaction[None]:
    """Record that a user's token was used, at most once a minute."""
    yield from query(USE_API_TOKEN, token=token)


class RevokedNodeTokenRow(NamedTuple):
    node: int


#: Concurrent writers: another operator, and a node that is forgotten. Each token is revoked once,
#: and the audit log has one line for it.
REVOKE_NODE_TOKENS = Statement(
    "REVOKE_NODE_TOKENS",
    """
WITH valid AS MATERIALIZED (
    SELECT id FROM scheduling_nodetoken
    WHERE revoked_at IS NULL AND (id = %(token)s::bigint OR node_id = %(node)s::bigint)
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE scheduling_nodetoken t SET revoked_at = clock_timestamp()
FROM valid WHERE t.id = valid.id
RETURNING t.node_id AS node
""",
    row=RevokedNodeTokenRow,
)


class RevokedApiTokenRow(NamedTuple):
    username: str


#: The same for the tokens of users.
REVOKE_API_TOKENS = Statement(
    "REVOKE_API_TOKENS",
    """
WITH valid AS MATERIALIZED (
    SELECT t.id, u.username FROM scheduling_apitoken t JOIN auth_user u ON u.id = t.user_id
    WHERE t.revoked_at IS NULL AND (t.id = %(token)s::bigint OR u.username = %(username)s::text)
    ORDER BY t.id FOR NO KEY UPDATE OF t
)
UPDATE scheduling_apitoken t SET revoked_at = clock_timestamp()
FROM valid WHERE t.id = valid.id
RETURNING valid.username
""",
    row=RevokedApiTokenRow,
)


def revoke_node_tokens(
    *, token: int | None = None, node: int | None = None, actor: str, reason: str
) -> Transaction[int]:
    """Revoke the token with this id, or all of a node. Return how many were not revoked before."""
    rows = yield from query(REVOKE_NODE_TOKENS, token=token, node=node)
    lines = [Line(portfolio=None, node=row.node, reason=reason, data={}) for row in rows]
    if lines:
        yield from audit_all("node_token_revoked", lines, actor=actor)
    return len(rows)


def revoke_api_tokens(
    *, token: int | None = None, username: str | None = None, actor: str, reason: str
) -> Transaction[int]:
    """Revoke the token with this id, or all of a user. Return how many were not revoked before."""
    rows = yield from query(REVOKE_API_TOKENS, token=token, username=username)
    lines = [
        Line(portfolio=None, node=None, reason=reason, data={"user": row.username}) for row in rows
    ]
    if lines:
        yield from audit_all("api_token_revoked", lines, actor=actor)
    return len(rows)
