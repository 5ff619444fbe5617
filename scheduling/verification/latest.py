"""The newest verification of a portfolio, as pages and the API show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scheduling.db.transaction import django_cursor
from scheduling.models import OPEN_STATES
from scheduling.verification.queue import SILENT_MESSAGE, SILENT_S, UNCLAIMED_MESSAGE, UNCLAIMED_S

NEWEST = """
SELECT v.id, v.state, v.requested_by, v.requested_at, v.started_at, v.finished_at, v.from_seq,
       v.at_seq, v.to_seq, v.sentence, v.verdict,
       v.heard_at < clock_timestamp() - make_interval(secs => %(silent_s)s) AS silent,
       v.requested_at < clock_timestamp() - make_interval(secs => %(unclaimed_s)s)
           AND NOT EXISTS (SELECT FROM scheduling_verification b
               WHERE b.heard_at >= clock_timestamp() - make_interval(secs => %(unclaimed_s)s))
           AS unclaimed
FROM scheduling_verification v
WHERE v.portfolio_id = %(portfolio)s
ORDER BY v.id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class VerificationView:
    """Progress or outcome of a verification.

    `state` is never, waiting, running, identical, different or failed; `verdict` is the document of
    a finished one.
    """

    portfolio: str
    state: str = "never"
    sentence: str = ""
    id: int | None = None
    requested_by: str = ""
    requested_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    from_seq: int | None = None
    at_seq: int | None = None
    to_seq: int | None = None
    verdict: Mapping[str, Any] | None = None

    @property
    def under_way(self) -> bool:
        """Return whether the verification is waiting or running."""
        return self.state in OPEN_STATES

    @property
    def progress(self) -> float | None:
        """Return the finished share, 0 to 1; None if it is unknown."""
        if self.state in ("identical", "different"):
            return 1.0
        if self.from_seq is None or self.at_seq is None or self.to_seq is None:
            return None
        total = self.to_seq - self.from_seq + 1
        return max(0.0, min(1.0, (self.at_seq - self.from_seq + 1) / total)) if total > 0 else None

    @property
    def difference(self) -> Any:
        """Return the first difference from the reference run; None: none was found."""
        return (self.verdict or {}).get("difference")

    @property
    def history(self) -> str | None:
        """Return the disagreement between audit log and tenures; None: none was found."""
        return (self.verdict or {}).get("history")

    @property
    def notes(self) -> list[str]:
        """Return what was not compared, and why."""
        return list((self.verdict or {}).get("notes") or [])

    @property
    def state_digest(self) -> str | None:
        """Return the digest of the state at the end; None if the state was not compared."""
        return (self.verdict or {}).get("state_digest")

    @property
    def replayed(self) -> dict[str, Any]:
        """Return the verdict's figures on replayed and counted events; each None if no verdict."""
        names = (
            "events_replayed", "replayed_from_seq", "verified_before_at", "events_counted_from",
            "events_digest",
        )  # fmt: skip
        return {name: (self.verdict or {}).get(name) for name in names}

    @property
    def took_s(self) -> float | None:
        """Return how many seconds the verification took; None if it has no verdict."""
        return (self.verdict or {}).get("took_s")

    @property
    def counts(self) -> dict[str, int | None]:
        """Return kind → number of events, rows or handoffs compared; each None if no verdict."""
        names = ("events", "orders", "fills", "equity", "handoffs")
        return {name: (self.verdict or {}).get(name) for name in names}


def newest_verification(portfolio: int, name: str) -> VerificationView:
    """Return the portfolio's newest verification, or a view that says that there is none.

    One that runs or waits is shown as failed if no runner works on it. One statement.
    """
    where = {"portfolio": portfolio, "silent_s": SILENT_S, "unclaimed_s": UNCLAIMED_S}
    with django_cursor() as cursor:
        row: Any = cursor.execute(NEWEST, where).fetchone()
    if row is None:
        return VerificationView(name, sentence=f"{name} has not been verified yet.")
    state, sentence = row.state, row.sentence
    if state == "running" and row.silent:
        state, sentence = "failed", SILENT_MESSAGE
    elif state == "waiting" and row.unclaimed:
        state, sentence = "failed", UNCLAIMED_MESSAGE
    return VerificationView(
        portfolio=name, state=state, sentence=sentence or _progress_sentence(row), id=row.id,
        requested_by=row.requested_by, requested_at=row.requested_at, started_at=row.started_at,
        finished_at=row.finished_at, from_seq=row.from_seq, at_seq=row.at_seq, to_seq=row.to_seq,
        verdict=row.verdict or None,
    )  # fmt: skip


def _progress_sentence(row: Any) -> str:
    """Return how far a verification without an outcome is."""
    if row.state == "waiting":
        return "Waits for its turn."
    if row.at_seq is None:
        return "Reads the log."
    return f"Identical so far, at seq {row.at_seq:,} of {row.to_seq:,}."
