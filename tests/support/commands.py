"""Commands of manage.py, called in the process of the test."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from django.core.management import call_command


class Terminal(StringIO):
    """What somebody types on a terminal."""

    def isatty(self) -> bool:
        return True


def said(*arguments: str) -> str:
    """Return what a command printed."""
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def told(*arguments: str) -> Any:
    """Return the JSON that a command printed."""
    return json.loads(said(*arguments, "--json"))
