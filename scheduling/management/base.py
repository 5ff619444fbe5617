"""What all commands share: `--json`, one sentence on stderr, and exit codes that scripts can use.

0  done
1  refused, or failed: one sentence on stderr; with --json also {"code", "message", …} on stdout
2  the command line was wrong
"""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError
from rest_framework.utils.encoders import JSONEncoder
from rich.console import Console
from rich.text import Text

from portfolios.text import escape_json, escape_lines, unprintable_errors
from scheduling.errors import Invalid, Refused, SnapshotUnavailable
from scheduling.presentation.problems import DATABASE_AWAY
from scheduling.request_origin import acting_from, command_line_actor, of_command


class Failed(Refused):
    """The command did what was asked, and it did not end well."""

    def __init__(self, code: str, message: str, **extra: Any) -> None:
        super().__init__(code, message, **extra)


class GinkgoCommand(BaseCommand):
    """A door like the others: parse, one call, show the outcome."""

    # Checks and migrations are the business of `check` and `migrate`; a door should just open.
    requires_system_checks: list[str] = []
    _from_shell = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Add `--json`, then what the command itself takes."""
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")
        self.arguments(parser)

    def arguments(self, parser: CommandParser) -> None:
        """Add the command's own arguments."""

    @abstractmethod
    def act(self, options: dict[str, Any]) -> None:
        """Do it and `show` the outcome. Raise Refused where the answer is no."""

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as a process of its own: whatever goes wrong ends in a sentence and a code."""
        self._from_shell = True
        super().run_from_argv(argv)

    def handle(self, *args: Any, **options: Any) -> None:
        """Act, and turn every foreseen failure into a sentence."""
        self.as_json: bool = options["json"]
        try:
            refuse_unprintable_options(options)
            with acting_from(of_command(type(self).__module__.rpartition(".")[2])):
                self.act(options)
        except Refused as refused:
            self._end(refused.code, refused.message, **refused.extra)
        except SnapshotUnavailable as error:
            line = _first_line(error)
            self._end("unavailable", line[:1].upper() + line[1:])
        except DATABASE_AWAY as error:
            self._end("unavailable", f"The database does not answer: {_first_line(error)}")
        except ProgrammingError as error:
            self._end(
                "unavailable",
                f"The database lacks a table or a column: {_first_line(error)} "
                "Run manage.py migrate first.",
            )
        except KeyboardInterrupt:
            self._end("interrupted", "Interrupted; what was asked for goes on.")
        except CommandError:
            raise
        except Exception as error:
            if options["traceback"] or not self._from_shell:
                raise
            said = f"{type(error).__name__}: {_first_line(error)}"
            self._end("internal_error", f"{said} Run it with --traceback to see where.")

    def _end(self, code: str, message: str, **extra: Any) -> None:
        """End with exit code 1, or with an exception where another program called."""
        if self.as_json:
            self.stdout.write(_dumps({"code": code, "message": message, **extra}))
        if not self._from_shell:
            raise CommandError(message, returncode=1)
        self.stderr.write(escape_lines(message))
        sys.exit(1)

    def show(self, document: Any, text: str | Callable[[Console], None]) -> None:
        """Print `document` with --json, else `text`: a sentence, or what draws on a console."""
        if self.as_json:
            self.stdout.write(_dumps(document))
        elif isinstance(text, str):
            self.stdout.write(escape_lines(text))
        else:
            text(self.console())

    def console(self) -> Console:
        """Return a console on the command's own output, which tests may have redirected."""
        out: Any = self.stdout
        # A file has no width of its own, and a table cut to 80 columns helps nobody there.
        width = None if out.isatty() else 160
        return PlainConsole(file=out._out, highlight=False, width=width)

    @property
    def actor(self) -> str:
        """Return the name that the audit trail keeps for this command."""
        return command_line_actor()


class PlainConsole(Console):
    """A console that shows control characters of its texts instead of obeying them."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text, escaped."""
        return super().render_str(escape_lines(text), **options)


def refuse_unprintable_options(options: dict[str, Any]) -> None:
    """Raise Invalid for an argument with a control or bidirectional character in it."""
    errors = [
        wrong
        for name, value in options.items()
        if name not in ("stdout", "stderr")
        for wrong in unprintable_errors(name, value)
    ]
    if errors:
        raise Invalid(errors)


def _dumps(document: Any) -> str:
    return escape_json(json.dumps(document, cls=JSONEncoder, ensure_ascii=False, indent=2))


def _first_line(error: Exception) -> str:
    """Return the first line of what the database said, as the end of a sentence."""
    line = str(error).strip().split("\n", 1)[0].rstrip(".")
    return f"{line or type(error).__name__}."
