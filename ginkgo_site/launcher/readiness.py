"""Find demo portfolios that have not committed since this start, and those that cannot run.

Reads the database directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import psycopg

from ginkgo_site.launcher.errors import StartupError

#: A portfolio that is unassigned after this many passes cannot run. The first of them may have
#: begun before all nodes had registered, and the reason on the row may be older than that pass.
PASSES = 3
_MAX_LISTED = 10

#: When the last pass that could fail portfolios over has run.
_LAST_PASS = "SELECT failover_ran_at FROM scheduling_passlock WHERE name = 'pass'"

#: Whether a run has no owner, with a stored reason, and no handoff that is about to give it one.
_UNASSIGNED = """
    r.phase = 'pending' AND r.node_id IS NULL AND r.why IS NOT NULL AND NOT EXISTS (
        SELECT FROM scheduling_handoff h WHERE h.portfolio_id = p.id
        AND h.state IN ('requested', 'preparing', 'draining', 'activating'))
"""

#: The named portfolios that should run and have not committed since a time; the last column tells
#: whether the portfolio is unassigned.
_MISSING = f"""
    SELECT p.name, r.phase, n.name, r.reason, {_UNASSIGNED}
    FROM portfolios_portfolio p
    JOIN scheduling_run r ON r.portfolio_id = p.id
    LEFT JOIN scheduling_node n ON n.id = r.node_id
    WHERE p.name = ANY(%(names)s)
      AND p.archived_at IS NULL
      AND p.desired_state = 'running'
      -- A restart does not bring these back; their rows give the reason.
      AND r.phase NOT IN ('halted', 'quarantined')
      AND (r.last_commit_at IS NULL OR r.last_commit_at < %(since)s)
    ORDER BY p.name
"""

#: The first unassigned portfolios with their reasons, and the number of all of them.
_WAITING = f"""
    SELECT p.name, r.reason, count(*) OVER ()
    FROM portfolios_portfolio p JOIN scheduling_run r ON r.portfolio_id = p.id
    WHERE p.archived_at IS NULL AND p.desired_state = 'running' AND {_UNASSIGNED}
    ORDER BY p.name LIMIT {_MAX_LISTED}
"""


class Readiness:
    """Reads the runs of portfolios over a connection of its own, opened at the first question."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None
        self._pass_times: set[datetime] = set()  #: when the passes ran that `missing` has seen

    def database_now(self) -> datetime:
        """Return the database's time. Raise `StartupError` if it does not answer."""
        try:
            row = self._ask("SELECT clock_timestamp()", {})[0]
        except psycopg.OperationalError as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[-1].strip()
            raise StartupError(
                f"The database does not answer ({reason}). If DATABASE_URL names it, start it, "
                "correct DATABASE_URL, or unset it to use the embedded server."
            ) from None
        return row[0]

    def missing(self, names: Sequence[str], since: datetime) -> list[str]:
        """Return a phrase for each portfolio that could run and has not committed since `since`.

        Two statements. Raises `psycopg.OperationalError` while the database is away.
        """
        self._pass_times |= {at for (at,) in self._ask(_LAST_PASS, {}) if at is not None}
        rows = self._ask(_MISSING, {"names": list(names), "since": since})
        # What is still unassigned after PASSES passes of this start is not waited for. More than
        # PASSES: the first time that was read may be that of a pass before this start.
        seen_enough = len(self._pass_times) > PASSES
        return [_phrase(*run) for *run, unassigned in rows if not (seen_enough and unassigned)]

    def waiting(self) -> list[str]:
        """Return a sentence for each unassigned portfolio, ten at most. One statement."""
        rows = self._ask(_WAITING, {})
        sentences = [f"{name} waits: {reason}" for name, reason, _total in rows]
        _, _, total = rows[0] if rows else ("", "", 0)
        if total > len(rows):
            sentences.append(f"{total - len(rows)} more portfolios wait.")
        return sentences

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, sql: str, parameters: dict[str, object]) -> list[tuple]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=20)
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except psycopg.OperationalError:
            self.close()
            raise


def _phrase(name: str, phase: str, node: str | None, reason: str) -> str:
    where = f" on {node}" if node else ""
    why = f": {reason}" if reason else ""
    return f"{name} ({phase}{where}{why})"
