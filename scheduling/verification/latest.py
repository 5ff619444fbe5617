"""The newest verification of a portfolio, as a page or a program is shown it."""

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
    """How far it is, or what came of it. `state` is never, waiting, running, identical, different
    or failed; `verdict` has what a finished one found."""

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
        """Return whether a verdict is still to come."""
        return self.state in OPEN_STATES

    @property
    def progress(self) -> float | None:
        """Return how much is done, 0 to 1; None where nothing is known of it."""
        if self.state in ("identical", "different"):
            return 1.0
        if self.from_seq is None or self.at_seq is None or self.to_seq is None:
            return None
        whole = self.to_seq - self.from_seq + 1
        return max(0.0, min(1.0, (self.at_seq - self.from_seq + 1) / whole)) if whole > 0 else None

    @property
    def difference(self) -> Any:
        """Return the first difference, or None."""
        return (self.verdict or {}).get("difference")

    @property
    def history(self) -> str | None:
        """Return what disagrees between audit trail and tenures, or None."""
        return (self.verdict or {}).get("history")

    @property
    def notes(self) -> list[str]:
        """Return what could not be compared, and why."""
        return list((self.verdict or {}).get("notes") or [])

    @property
    def state_digest(self) -> str | None:
        """Return the digest of the state that both sides have."""
        return (self.verdict or {}).get("state_digest")

    @property
    def replayed(self) -> dict[str, Any]:
        """Return what of it was replayed now, and which count of events is recorded."""
        names = (
            "events_replayed",
            "replayed_from_seq",
            "verified_before_at",
            "events_counted_from",
            "events_digest",
        )
        return {name: (self.verdict or {}).get(name) for name in names}

    @property
    def took_s(self) -> float | None:
        """Return how long it took."""
        return (self.verdict or {}).get("took_s")

    @property
    def counts(self) -> dict[str, int | None]:
        """Return over how much it went."""
        names = ("events", "orders", "fills", "equity", "handoffs")
        return {name: (self.verdict or {}).get(name) for name in names}


def newest_verification(portfolio: int, name: str) -> VerificationView:
    """Return the newest one, ended on paper where nobody works on it any more. One statement."""
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
        portfolio=name,
        state=state,
        sentence=sentence or _progress_sentence(row),
        id=row.id,
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        from_seq=row.from_seq,
        at_seq=row.at_seq,
        to_seq=row.to_seq,
        verdict=row.verdict or None,
    )


def _progress_sentence(row: Any) -> str:
    if row.state == "waiting":
        return "Waits for its turn."
    if row.at_seq is None:
        return "Reads the log."
    return f"Identical so far, at seq {row.at_seq:,} of {row.to_seq:,}."
