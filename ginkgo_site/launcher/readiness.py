"""Has every demo portfolio committed in this start? Asked of the database itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import psycopg

from ginkgo_site.launcher.errors import CannotStart

_MISSING = """
    SELECT p.name, r.phase, n.name, r.reason
    FROM portfolios_portfolio p
    JOIN scheduling_run r ON r.portfolio_id = p.id
    LEFT JOIN scheduling_node n ON n.id = r.node_id
    WHERE p.name = ANY(%(names)s)
      AND p.archived_at IS NULL
      AND p.desired_state = 'running'
      -- These say why on their row, and a restart is not meant to bring them back.
      AND r.phase NOT IN ('halted', 'quarantined')
      AND (r.last_commit_at IS NULL OR r.last_commit_at < %(since)s)
    ORDER BY p.name
"""


class Readiness:
    """Watches the runs of some portfolios over a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None

    def database_now(self) -> datetime:
        """Return the database's clock, or raise `CannotStart` when it does not answer."""
        try:
            row = self._ask("SELECT clock_timestamp()", {})[0]
        except psycopg.OperationalError as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[-1].strip()
            raise CannotStart(
                f"The database does not answer ({reason}): start it, correct DATABASE_URL, or "
                "unset it to use the embedded server."
            ) from None
        return row[0]

    def missing(self, names: Sequence[str], since: datetime) -> list[str]:
        """Return a phrase for each portfolio that has not committed since `since`. One statement.

        Raises `psycopg.OperationalError` while the database is away.
        """
        rows = self._ask(_MISSING, {"names": list(names), "since": since})
        return [_phrase(*row) for row in rows]

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, sql: str, parameters: dict[str, object]) -> list[tuple]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except psycopg.OperationalError:
            self.close()
            raise


def _phrase(name: str, phase: str, node: str | None, reason: str) -> str:
    where = f" on {node}" if node else ""
    why = f": {reason}" if reason else ""
    return f"{name} ({phase}{where}{why})"
