"""Log lines: one JSON object each, with a traceback where Ginkgo failed."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from portfolios.json_log import JsonLines


@pytest.mark.parametrize(
    ("logger", "traced"),
    [("django.security.DisallowedHost", False), ("scheduling.gateway.app", True)],
)
def test_a_host_that_is_not_allowed_is_a_sentence_and_no_trace(logger: str, traced: bool) -> None:
    try:
        raise ValueError("'x' is not allowed")
    except ValueError as error:
        info: Any = sys.exc_info()
        record = logging.LogRecord(logger, logging.ERROR, "", 0, str(error), (), info)
    line = json.loads(JsonLines().format(record))
    assert line["message"] == "'x' is not allowed"
    assert ("traceback" in line) is traced
