"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandParser

from portfolios.json_text import read_json
from portfolios.text import exact_decimal
from scheduling.models import Scope
from scheduling.operations.tokens import NewToken


def add_reason(parser: CommandParser) -> None:
    """Add `--reason`, which the audit log keeps."""
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for the audit log")


def add_actor(parser: CommandParser) -> None:
    """Add `--by`, the actor in the audit log."""
    parser.add_argument(
        "--by", metavar="NAME", type=not_empty, help="the actor in the audit log, by default the "
        "operating system user",
    )  # fmt: skip


def add_wait(parser: CommandParser) -> None:
    """Add `--wait`, for a command that begins a handoff or a start."""
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=seconds,
        help="wait for the outcome; exit with 1 after this time, while the handoff continues",
    )


def add_token_options(parser: CommandParser) -> None:
    """Add the name and the lifetime of a new token."""
    parser.add_argument(
        "--name", metavar="TEXT", dest="token_name", default="", help="purpose of the token"
    )
    parser.add_argument(
        "--days", metavar="N", type=int, help="valid for N days, by default until it is revoked"
    )


def read_token_options(options: dict[str, Any]) -> NewToken:
    """Return the name, lifetime and scope of a new token that the command's options ask for."""
    scope = Scope(options.get("scope") or Scope.OPERATE)
    return NewToken(options.get("token_name") or "", options.get("days"), scope)


def not_empty(text: str) -> str:
    """Return the text. Refuse one that is empty, as from an unset variable, or only commas."""
    if not text.strip(" ,"):
        raise argparse.ArgumentTypeError("is empty; leave it out, or give a value")
    return text


def seconds(text: str) -> float:
    """Parse a number of seconds, more than 0 and at most 86400."""
    value = float(text)  # a ValueError: argparse reports it with the argument's name
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"must be seconds, over 0 and up to 86400, not {text}")
    return value


def positive_int(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def json_object(text: str) -> dict[str, Any]:
    """Parse a JSON object."""
    try:
        value = read_json(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object, such as {{}}, not {text}")
    return value


def comma_list(text: str) -> list[str]:
    """Return the texts between commas, without spaces around them and without empty ones."""
    return [part.strip() for part in text.split(",") if part.strip()]


def some_names(text: str) -> list[str]:
    """Return the texts between commas, at least one."""
    return comma_list(not_empty(text))


def label(text: str) -> tuple[str, str]:
    """Return (KEY, VALUE) of KEY=VALUE; VALUE may be empty."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, such as zone=a, not {text}")
    return key, value


def parameter(text: str) -> tuple[str, Any]:
    """Return (NAME, value) of NAME=VALUE, whose VALUE is JSON, such as 5 or true, or a text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, such as fast=5, not {text}")
    try:
        return name, read_json(value)
    except ValueError:
        return name, value


class EachOnce(argparse.Action):
    """Collect the pairs of `label` or `parameter` in a dictionary; refuse a key given twice."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        found = dict(getattr(namespace, self.dest) or {})
        # One pair, or with `nargs` a list of them.
        for key, value in [values] if isinstance(values, tuple) else values:
            if key in found:
                raise argparse.ArgumentError(self, f"{key} is given twice; give it once")
            found[key] = value
        setattr(namespace, self.dest, found)


def amount(text: str) -> Decimal:
    """Parse an amount of money."""
    value = exact_decimal(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"must be an amount such as 100000, not {text}")
    return value
