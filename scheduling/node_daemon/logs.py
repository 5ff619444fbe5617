"""Log lines of a daemon on stderr, as text or as JSON. They never contain a token."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

from portfolios.json_log import JsonLines
from portfolios.text import escape_lines, escape_unprintable

LOG = logging.getLogger("ginkgo.node")


class PlainLines(logging.Formatter):
    """Render a record as text. A message stays one line, even if a strategy printed line breaks."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return the time in UTC, as in every other log."""
        return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without its traceback, with control characters escaped."""
        record.message = escape_unprintable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the traceback, the only text of several lines."""
        return escape_lines(super().formatException(ei))


def start_logging(name: str, *, as_json: bool) -> None:
    """Log to stderr, as JSON or as lines that begin with the time and the node's name."""
    handler = logging.StreamHandler(sys.stderr)
    if as_json:
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(PlainLines(f"%(asctime)s {name} %(levelname)s %(message)s"))
    logging.basicConfig(level="INFO", handlers=[handler], force=True)


class RateLimitedLog:
    """Logs up to `lines` lines in each window of `window_s` seconds. If there were more, the next
    window begins with a line that says how many."""

    def __init__(self, lines: int = 20, window_s: float = 10.0) -> None:
        """Begin the first window with the first line."""
        self._lines, self._window_s = lines, window_s
        self._since, self._used, self._suppressed = 0.0, 0, 0

    def info(self, now_s: float, message: str, *args: object) -> None:
        """Log the line or count it as suppressed."""
        if now_s - self._since >= self._window_s:
            if self._suppressed:
                LOG.info("%d more lines were suppressed", self._suppressed)
            self._since, self._used, self._suppressed = now_s, 0, 0
        if self._used >= self._lines:
            self._suppressed += 1
            return
        self._used += 1
        LOG.info(message, *args)
