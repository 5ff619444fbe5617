"""The interface of market-data logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from portfolios.feeds.clock import Segment
from portfolios.runtime.events import Event


class Feed(Protocol):
    """An ordered log of events, numbered 1, 2, 3 … without gaps, readable from any seq.

    A feed is pure data: the same (name, sha256) gives the same events everywhere. Release times are
    not part of the data; they follow from the segments, if these are given.
    """

    name: str
    sha256: str
    length: int  #: events of one lap
    symbols: tuple[str, ...]  #: sorted

    def read(self, from_seq: int, limit: int, segments: Sequence[Segment] = ()) -> list[Event]:
        """Return at most `limit` events from `from_seq` on (inclusive), of every symbol."""

    def read_for(
        self,
        symbols: frozenset[str] | None,
        from_seq: int,
        to_seq: int,
        segments: Sequence[Segment] = (),
        limit: int | None = None,
    ) -> list[Event]:
        """Return the events of `symbols` (None: every symbol) with from_seq <= seq <= to_seq.

        At most the first `limit` of them. Costs the size of the answer, not of the range.
        """
