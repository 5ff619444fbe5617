"""Hold an artifact while a revision that names it is written, and delete one that nothing names."""

from __future__ import annotations

from typing import NamedTuple

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query_one


class HeldRow(NamedTuple):
    sha256: str


HOLD_ARTIFACT = Statement(
    "HOLD_ARTIFACT",
    """
-- Concurrent writer: a deletion, which waits for this transaction and then finds its revision.
SELECT sha256 FROM portfolios_artifact WHERE sha256 = %(artifact)s FOR KEY SHARE
""",
    row=HeldRow,
)


def hold(artifact: str) -> Transaction[bool]:
    """Keep an artifact from deletion until the transaction ends. Return whether it exists."""
    return (yield from query_one(HOLD_ARTIFACT, artifact=artifact)) is not None
