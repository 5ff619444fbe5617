"""Which daemons have told this process what was acknowledged to them.

Each is asked once: by a process that has just started, since it may serve a restored database, and
again when the database turns out to be another one.
"""

from __future__ import annotations


class AcknowledgementRequests:
    """The memory of one process."""

    def __init__(self) -> None:
        self._database: tuple[str, int] | None = None
        self._told: dict[int, str] = {}

    def record_database(self, key: tuple[str, int]) -> None:
        """Note which history the database is; a new one makes every daemon due again."""
        if key != self._database:
            self._database = key
            self._told = {}

    def is_due(self, node: int, incarnation: str) -> bool:
        """Return whether this daemon has to be asked."""
        return self._database is not None and self._told.get(node) != incarnation

    def record_received(self, node: int, incarnation: str) -> None:
        """Note that this daemon told everything."""
        self._told[node] = incarnation


ACKNOWLEDGEMENT_REQUESTS = AcknowledgementRequests()
