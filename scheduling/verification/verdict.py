"""The verdict of a verification, as a sentence and as a document."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from portfolios.verify.types import VerificationResult
from scheduling.decide.reasons import count


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was compared, and the result."""

    portfolio: str
    compared: VerificationResult
    history: str | None  #: disagreement between audit log, tenures and run; None: none
    handoffs: int
    epochs: int
    taken_at: datetime
    took_s: float
    notes: tuple[str, ...]  #: what was not compared, and why
    verified_at: datetime | None = None  #: time of the anchor at which the replay began

    @property
    def identical(self) -> bool:
        """Return whether everything that was compared is identical."""
        return self.compared.difference is None and self.history is None

    @property
    def sentence(self) -> str:
        """Return the verdict in one line."""
        found = self.compared.difference
        if found is not None:
            return f"different at seq {found.seq}: {found.sentence()}"
        if self.history is not None:
            return f"history differs: {self.history}"
        counts = self.compared.counts
        return (
            f"identical over {self._counted_events()}, {count(counts.orders, 'order')},"
            f" {count(counts.fills, 'fill')}, {count(counts.equity, 'equity point')},"
            f" {count(self.handoffs, 'handoff')},"
            f" seq {self.compared.from_seq:,}–{self.compared.to_seq:,}{self._replayed_part()}"
        )

    def _replayed_part(self) -> str:
        """Return how much was replayed now, "" if all events were."""
        if self.verified_at is None:
            return ""
        return (
            f"; {self.compared.replayed:,} of the events replayed now, from seq"
            f" {self.compared.replayed_from:,}, the others verified by"
            f" {self.verified_at:%Y-%m-%d %H:%M:%S}Z"
        )

    def _counted_events(self) -> str:
        """Return the count of events that the portfolio recorded, else of events replayed."""
        processed = self.compared.processed
        if processed is not None:
            return count(processed.events, "event")
        return count(self.compared.counts.events, "replayed event")

    def document(self) -> dict[str, Any]:
        """Return the verdict as the row and the API store it."""
        compared, counts = self.compared, self.compared.counts
        difference = compared.difference
        processed = compared.processed  # as recorded; None: the replay's count stands in
        return {
            "portfolio": self.portfolio,
            "state": "identical" if self.identical else "different",
            "sentence": self.sentence,
            "from_seq": compared.from_seq,
            "to_seq": compared.to_seq,
            "events": counts.events if processed is None else processed.events,
            "events_replayed": compared.replayed,
            "replayed_from_seq": compared.replayed_from,
            "verified_before_at": self.verified_at,
            "events_counted_from": None if processed is None else processed.since,
            "events_digest": None if processed is None else processed.digest_text,
            "orders": counts.orders,
            "fills": counts.fills,
            "equity": counts.equity,
            "equity_dropped": counts.equity_dropped,
            "rows_dropped": counts.rows_dropped,
            "handoffs": self.handoffs,
            "epochs": self.epochs,
            "state_digest": compared.state_digest,
            "difference": None if difference is None else asdict(difference),
            "history": self.history,
            "notes": list(self.notes),
            "taken_at": self.taken_at,
            "took_s": round(self.took_s, 3),
        }
