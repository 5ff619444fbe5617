"""One JSON object per log line, the same in every process."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from portfolios.text import escape_json

#: Loggers of errors that the client made: the message suffices.
WITHOUT_TRACEBACK = frozenset({"django.security.DisallowedHost"})
#: Field of a `logging` record → its name in the line.
FIELDS = {"name": "logger", "process": "pid", "exc_info": "traceback"}


class JsonLines(JsonFormatter):
    """Render a record as one line: time, level, logger, message, `extra` fields, traceback.

    A value that JSON does not know is shown by its `str`. Control characters are escaped.
    """

    def __init__(self) -> None:
        super().__init__(
            ["message", "name", "process"],
            rename_fields=FIELDS,
            json_default=str,
            json_ensure_ascii=False,
        )

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Add time and level; leave out tracebacks that say nothing."""
        log_data["at"] = datetime.fromtimestamp(record.created, UTC).isoformat(
            timespec="milliseconds"
        )
        log_data["level"] = record.levelname.lower()
        if record.name in WITHOUT_TRACEBACK:
            message_dict.pop("exc_info", None)
        super().add_fields(log_data, record, message_dict)

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        """Return the record as a line of JSON, its unprintable characters escaped."""
        return escape_json(super().serialize_log_record(log_data))
