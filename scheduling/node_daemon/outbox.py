"""Reports of handoff steps, exits and halts, kept until a heartbeat with them is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scheduling.wire.messages import Report

#: The server needs some milliseconds for each, and has to answer a heartbeat within 4 s.
MAX_REPORTS_PER_HEARTBEAT = 100


class Outbox:
    """Reports, oldest first. Each names its handoff, exit or epoch, so a repeat is harmless."""

    def __init__(self) -> None:
        #: (report, what to call once it is delivered)
        self._waiting: list[tuple[Report, Callable[[], None] | None]] = []

    def add(self, report: Report, on_delivered: Callable[[], None] | None = None) -> None:
        """Queue a report; `on_delivered` is called once the server has applied it."""
        self._waiting.append((report, on_delivered))

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def next_reports(self) -> list[Report]:
        """Return the oldest reports, as many as one heartbeat carries."""
        return [report for report, _ in self._waiting[:MAX_REPORTS_PER_HEARTBEAT]]

    def mark_delivered(self, sent: Sequence[Report]) -> None:
        """Remove the reports of an answered heartbeat, and call their `on_delivered`."""
        count = len(sent)
        delivered, self._waiting = self._waiting[:count], self._waiting[count:]
        for _, on_delivered in delivered:
            if on_delivered is not None:
                on_delivered()
