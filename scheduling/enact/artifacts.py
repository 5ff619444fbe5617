"""Store an artifact, hold it while a revision that names it is written, and delete it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from portfolios.runtime.messages import FoundStrategy
from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.enact.audit_log import audit


class ShaRow(NamedTuple):
    sha256: str


HOLD_ARTIFACT = Statement(
    "HOLD_ARTIFACT",
    """
-- Concurrent writer: a deletion, which waits for this transaction and then finds its revision.
SELECT sha256 FROM portfolios_artifact WHERE sha256 = %(artifact)s FOR KEY SHARE
""",
    row=ShaRow,
)

STORE_ARTIFACT = Statement(
    "STORE_ARTIFACT",
    """
-- Concurrent writer: an upload of the same bytes, or of the same name and version. The first one
-- stands; this one stores nothing. Together they may exceed the total by one artifact.
INSERT INTO portfolios_artifact (sha256, name, version, filename, wheel, size, summary, python_tag,
    python_requirement, pythons, lock, env_sha256, uploaded_by, at)
SELECT %(sha256)s, %(name)s, %(version)s, %(filename)s, %(wheel)s, %(size)s::int, %(summary)s,
       %(python_tag)s, %(python_requirement)s, %(pythons)s::jsonb, %(lock)s, %(env_sha256)s,
       %(uploaded_by)s, clock_timestamp()
WHERE (SELECT coalesce(sum(size), 0) FROM portfolios_artifact) + %(size)s::int <= %(max_total)s
ON CONFLICT DO NOTHING
RETURNING sha256
""",
    row=ShaRow,
)

STORE_STRATEGIES = Statement(
    "STORE_STRATEGIES",
    """
-- Concurrent writer: none, the artifact is of this transaction.
INSERT INTO portfolios_strategy (artifact_id, name, class_path, version, state_version, schema,
    sees_every_symbol, checks, warm_up, summary)
SELECT %(artifact)s, s.name, s.class_path, s.version, s.state_version, s.schema,
       s.sees_every_symbol, s.checks, s.warm_up, s.summary
FROM jsonb_to_recordset(%(strategies)s::jsonb) AS s (name text, class_path text, version int,
    state_version int, schema jsonb, sees_every_symbol bool, checks bool, warm_up int, summary text)
""",
)

DELETE_STRATEGIES = Statement(
    "DELETE_STRATEGIES",
    """
-- Concurrent writer: a revision that is being written holds the artifact; the next statement waits.
DELETE FROM portfolios_strategy WHERE artifact_id = %(artifact)s
  AND NOT EXISTS (SELECT FROM portfolios_revision WHERE artifact_sha256 = %(artifact)s)
  AND NOT EXISTS (SELECT FROM scheduling_rollout WHERE artifact_sha256 = %(artifact)s)
""",
)

DELETE_ARTIFACT = Statement(
    "DELETE_ARTIFACT",
    """
-- Concurrent writer: a new revision or roll-out. This waits for its transaction; the foreign key
-- then refuses the deletion when it is committed, since the other was not visible here.
DELETE FROM portfolios_artifact WHERE sha256 = %(artifact)s
  AND NOT EXISTS (SELECT FROM portfolios_revision WHERE artifact_sha256 = %(artifact)s)
  AND NOT EXISTS (SELECT FROM scheduling_rollout WHERE artifact_sha256 = %(artifact)s)
RETURNING sha256
""",
    row=ShaRow,
)


def hold(artifact: str) -> Transaction[bool]:
    """Keep the artifact of this sha256 from deletion until the transaction ends.

    Return whether the artifact exists.
    """
    return (yield from query_one(HOLD_ARTIFACT, artifact=artifact)) is not None


def store(
    row: dict[str, Any], strategies: Sequence[FoundStrategy], max_total: int
) -> Transaction[bool]:
    """Store an artifact and its strategies, with a line in the audit log.

    `row`: the columns of the artifact; `max_total`: bytes that all artifacts may have together.
    Return False if its bytes or its version are stored already, or if that total would be exceeded.
    """
    values = {**row, "pythons": Jsonb(row["pythons"])}
    if (yield from query_one(STORE_ARTIFACT, **values, max_total=max_total)) is None:
        return False
    listed = [
        {name: getattr(each, name) for name in each.__struct_fields__}
        | {"schema": json.loads(each.schema)}
        for each in strategies
    ]
    yield from query(STORE_STRATEGIES, artifact=row["sha256"], strategies=Jsonb(listed))
    yield from audit(
        "artifact_added",
        actor=row["uploaded_by"],
        reason=f"{row['name']} {row['version']}",
        artifact=row["sha256"],
        strategies=[each.name for each in strategies],
    )
    return True


def delete(artifact: str, label: str, actor: str, reason: str = "") -> Transaction[bool]:
    """Delete the artifact of this sha256, which the audit log calls `label`.

    Return False, and delete nothing, if a revision or roll-out names it, or it does not exist.
    """
    yield from query(DELETE_STRATEGIES, artifact=artifact)
    if (yield from query_one(DELETE_ARTIFACT, artifact=artifact)) is None:
        return False
    why = f"{label}: {reason}" if reason else label
    yield from audit("artifact_deleted", actor=actor, reason=why, artifact=artifact)
    return True
