"""Authenticate node daemons by their tokens."""

from __future__ import annotations

import time
from dataclasses import dataclass

from scheduling.db.transaction import Row, aexecute_autocommit
from scheduling.enact.tokens import node_of_token
from scheduling.gateway.node_limits import QueueLimit, RequestQueue
from scheduling.gateway.pool import lease_pool

#: A revoked token works at most this long afterwards.
CACHE_S = 2.0
MAX_CACHED = 10_000


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """The node to which a token belongs: its id and name."""

    node: int
    name: str


#: Bounds look-ups of unknown tokens: otherwise a client that guesses tokens could take the
#: connections over which nodes renew their leases.
_unknown_tokens = RequestQueue(
    QueueLimit(1, 100), "Too many unknown tokens are being looked up; repeat."
)


class Unauthenticated(Exception):
    """The token of a daemon cannot be used; the text says why and what helps."""


#: sha256 of a token → (monotonic time of its look-up, its node)
_cache: dict[str, tuple[float, NodeIdentity]] = {}


async def authenticate_node(header: bytes | None) -> NodeIdentity:
    """Return the node of the token in an Authorization header. Raise Unauthenticated.

    Raise RequestRejected 429 if too many unknown tokens wait to be looked up.
    """
    from scheduling.models.tokens import hash_token

    text = (header or b"").decode("latin-1")
    scheme, _, token = text.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("A node token is required: Authorization: Bearer TOKEN.")
    sha256 = hash_token(token.strip())
    now = time.monotonic()
    looked_up_at, known = _cache.get(sha256, (0.0, None))
    if known is not None and now - looked_up_at < CACHE_S:
        return known
    row = await _look_up_unknown(sha256) if known is None else await _look_up(sha256)
    _cache.pop(sha256, None)
    if row is None:
        raise Unauthenticated("Unknown node token; create one with create_node_token.")
    if row.revoked or row.expired:
        what = "revoked" if row.revoked else "expired"
        raise Unauthenticated(f"This token of node {row.name} is {what}; create a new one.")
    identity = NodeIdentity(node=row.id, name=row.name)
    if len(_cache) >= MAX_CACHED:
        _cache.clear()
    _cache[sha256] = (now, identity)
    return identity


async def _look_up_unknown(sha256: str) -> Row | None:
    """Look up a token that this process does not know, one at a time. See `_look_up`."""
    await _unknown_tokens.acquire()
    try:
        return await _look_up(sha256)
    finally:
        _unknown_tokens.release()


async def _look_up(sha256: str) -> Row | None:
    """Record the use of a token. Return (id, name, revoked, expired) of its node; None: unknown."""
    async with lease_pool().connection() as connection:
        return await aexecute_autocommit(connection, node_of_token(sha256))
