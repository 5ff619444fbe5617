"""One JSON object per log line, the same in every process."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from portfolios.text import escaped_json

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

#: Loggers whose errors are those of the client: the sentence says all, and the trace is Django's.
WITHOUT_TRACE = frozenset({"django.security.DisallowedHost"})


class JsonFormatter(logging.Formatter):
    """Render a record as one line: time, level, logger, message, `extra` fields, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. A field that JSON does not know is shown by its `str`."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        line.update({k: v for k, v in record.__dict__.items() if k not in _STANDARD})
        if record.exc_info and record.name not in WITHOUT_TRACE:
            line["traceback"] = self.formatException(record.exc_info)
        return escaped_json(json.dumps(line, default=str, ensure_ascii=False))


def logging_config(level: str) -> dict[str, Any]:
    """Return a `dictConfig` that sends everything to stderr as JSON lines."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "ginkgo_site.logs.JsonFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # django-q2 and django.server bring handlers of their own, which would print twice.
            "django": {"handlers": [], "level": level, "propagate": True},
            "django.server": {"handlers": [], "level": level, "propagate": True},
            "django-q": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            "uvicorn.access": {"level": "WARNING"},
        },
    }
