"""The default feed: a year of real daily bars, replayed in endless laps."""

from __future__ import annotations

from portfolios.feeds.base import Feed


def load_replay() -> Feed:
    """Return the replay feed: 376 symbols, 92,120 bars in date, then symbol order."""
    raise NotImplementedError
