"""The newest events of a feed, encoded once, shared by every portfolio of a node."""

from __future__ import annotations

from collections.abc import Sequence

from portfolios.feeds.base import Feed
from portfolios.feeds.clock import Segment


class Ring:
    """A bounded window on the feed. What has left it is read from the feed again."""

    def __init__(self, feed: Feed, segments: Sequence[Segment], capacity: int = 65_536) -> None:
        raise NotImplementedError

    def set_segments(self, segments: Sequence[Segment]) -> None:
        """Take the segments now in force; events already encoded are dropped if they changed."""
        raise NotImplementedError

    def batch(
        self,
        cursor_seq: int,
        symbols: frozenset[str] | None,
        head: int,
        max_events: int = 100,
        max_span: int = 100_000,
    ) -> tuple[bytes, int]:
        """Return (events, to_seq): the next events of `symbols` behind `cursor_seq`, encoded.

        to_seq is at most `head`, at most `max_span` behind the cursor, and no further than the
        `max_events`-th event. At the head, to_seq equals the cursor and the batch is empty.
        """
        raise NotImplementedError
