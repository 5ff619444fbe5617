"""What a node may fetch: the artifacts, locks and feeds that its portfolios need now or next."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, Statement
from scheduling.db.transaction import Transaction, query_one

#: Artifacts of the revisions that a node runs or may be asked to run next, and of its handoffs.
_NEEDED = f"""
SELECT v.artifact_sha256 AS sha256
FROM scheduling_run r
JOIN portfolios_portfolio p ON p.id = r.portfolio_id
JOIN portfolios_revision v ON v.portfolio_id = r.portfolio_id
    AND v.number IN (r.revision, r.good_revision, p.revision)
WHERE r.node_id = %(node)s AND v.artifact_sha256 IS NOT NULL
UNION
SELECT v.artifact_sha256
FROM scheduling_handoff h
JOIN portfolios_revision v ON v.portfolio_id = h.portfolio_id
    AND v.number IN (h.from_revision, h.to_revision)
WHERE h.state IN {ACTIVE_HANDOFF_STATES} AND v.artifact_sha256 IS NOT NULL
  AND (h.target_node_id = %(node)s OR h.source_node_id = %(node)s)
"""


class WheelSizeRow(NamedTuple):
    size: int


#: The size of an artifact, if the node needs it.
WHEEL_SIZE = Statement(
    "WHEEL_SIZE",
    f"""
SELECT a.size FROM portfolios_artifact a
WHERE a.sha256 = %(sha256)s AND a.sha256 IN ({_NEEDED})
""",
    row=WheelSizeRow,
)


class WheelPartRow(NamedTuple):
    part: bytes


#: Reads no other part of the wheel, since the column is stored uncompressed.
WHEEL_PART = Statement(
    "WHEEL_PART",
    """
SELECT substring(wheel FROM %(start)s::int + 1 FOR %(length)s::int) AS part
FROM portfolios_artifact WHERE sha256 = %(sha256)s
""",
    row=WheelPartRow,
)


class LockRow(NamedTuple):
    lock: str


#: The lock of an environment, if the node needs an artifact that runs in it.
LOCK = Statement(
    "LOCK",
    f"""
SELECT a.lock FROM portfolios_artifact a
WHERE a.env_sha256 = %(sha256)s AND a.env_sha256 <> '' AND a.sha256 IN ({_NEEDED})
LIMIT 1
""",
    row=LockRow,
)


class FeedRow(NamedTuple):
    feed: int


#: The feed of this name, if a portfolio that the node runs or is about to run trades on it.
FEED = Statement(
    "NODE_FEED",
    f"""
SELECT f.id AS feed FROM portfolios_feed f
WHERE f.name = %(feed)s AND (
    EXISTS (SELECT FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
            WHERE r.node_id = %(node)s AND p.feed_id = f.id)
    OR EXISTS (SELECT FROM scheduling_handoff h JOIN portfolios_portfolio p ON p.id = h.portfolio_id
               WHERE h.state IN {ACTIVE_HANDOFF_STATES} AND p.feed_id = f.id
                 AND (h.target_node_id = %(node)s OR h.source_node_id = %(node)s)))
""",
    row=FeedRow,
)


def needs_feed(node: int, feed: str) -> Transaction[bool]:
    """Return whether a portfolio that the node runs, or is about to run, trades on a feed."""
    return (yield from query_one(FEED, node=node, feed=feed)) is not None


def wheel_size(node: int, sha256: str) -> Transaction[int | None]:
    """Return the size of an artifact in bytes, or None if the node does not need it."""
    row = yield from query_one(WHEEL_SIZE, node=node, sha256=sha256)
    return None if row is None else row.size


def wheel_part(sha256: str, start: int, length: int) -> Transaction[bytes]:
    """Return `length` bytes of an artifact from `start` on; b"" if it was deleted."""
    row = yield from query_one(WHEEL_PART, sha256=sha256, start=start, length=length)
    return b"" if row is None else bytes(row.part)


def environment_lock(node: int, sha256: str) -> Transaction[str | None]:
    """Return the lock of an environment, or None if the node does not need it."""
    row = yield from query_one(LOCK, node=node, sha256=sha256)
    return None if row is None else row.lock
