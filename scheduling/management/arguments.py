"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.management.base import CommandParser

from scheduling.models import Scope
from scheduling.operations.tokens import NewToken


def add_reason(parser: CommandParser) -> None:
    """Add `--reason`, which the audit trail keeps."""
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for the audit trail")


def add_wait(parser: CommandParser) -> None:
    """Add `--wait`."""
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=seconds,
        help="wait for the end; if it takes longer, exit with 1 while the handoff goes on",
    )


def add_token_options(parser: CommandParser) -> None:
    """Add what may be said of a token that is made."""
    parser.add_argument("--name", metavar="TEXT", dest="token_name", default="", help="what for")
    parser.add_argument(
        "--days", metavar="N", type=int, help="valid for so long; without it until it is revoked"
    )


def wanted_token(options: dict[str, Any]) -> NewToken:
    """Return what the options say of a new token."""
    scope = Scope(options.get("scope") or Scope.OPERATE)
    return NewToken(options.get("token_name") or "", options.get("days"), scope)


def seconds(text: str) -> float:
    """Return a time, more than 0 and at most a day."""
    value = float(text)  # argparse names the argument for a ValueError
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most 86400, not {text}")
    return value


def positive_int(text: str) -> int:
    """Return a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def json_object(text: str) -> dict[str, Any]:
    """Return a JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object, such as {{}}, not {text}")
    return value


def words(text: str) -> list[str]:
    """Return the words of a comma list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def label(text: str) -> tuple[str, str]:
    """Return (key, value) of K=V."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, not {text}")
    return key, value
