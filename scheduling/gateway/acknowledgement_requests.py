"""Ask every daemon once which commits were acknowledged to it.

A gateway asks after its start, since its database may have been restored, and again when the
database turns out to be another one.
"""

from __future__ import annotations


class AcknowledgementRequests:
    """Remembers which daemons have sent this process their acknowledged commits."""

    def __init__(self) -> None:
        self._database: tuple[str, int] | None = None
        self._received: dict[int, str] = {}  #: node → incarnation of the daemon that sent them

    def record_database(self, key: tuple[str, int]) -> None:
        """Record (system identifier, timeline); if it is new, every daemon is asked again."""
        if key != self._database:
            self._database = key
            self._received = {}

    def is_due(self, node: int, incarnation: str) -> bool:
        """Return whether this daemon must still be asked."""
        return self._database is not None and self._received.get(node) != incarnation

    def record_received(self, node: int, incarnation: str) -> None:
        """Record that this daemon sent its acknowledged commits."""
        self._received[node] = incarnation


ACKNOWLEDGEMENT_REQUESTS = AcknowledgementRequests()
