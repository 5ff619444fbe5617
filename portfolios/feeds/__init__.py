"""Market-data logs. `open_feed()` returns the feed of this installation."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

from portfolios.feeds.base import Feed
from portfolios.feeds.replay import load_replay

DEFAULT_FEED = "replay"

_FEEDS: dict[str, Callable[[], Feed]] = {"replay": load_replay}


class UnknownFeed(LookupError):
    """No feed has the name `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no feed named {name!r}")
        self.name = name


def feed_names() -> list[str]:
    """Return the names `open_feed` accepts, sorted."""
    return sorted(_FEEDS)


def open_feed(name: str | None = None) -> Feed:
    """Return the feed `name`, or the one GINKGO_FEED names (default "replay"); loaded once.

    Raise UnknownFeed.
    """
    return _open(name or os.environ.get("GINKGO_FEED") or DEFAULT_FEED)


@cache
def _open(name: str) -> Feed:
    if name not in _FEEDS:
        raise UnknownFeed(name)
    return _FEEDS[name]()
