"""The base of all commands: `--json`, one sentence on stderr, and exit codes for scripts.

0  done
1  refused or failed: one sentence on stderr; with --json also {"code", "message", …} on stdout
2  invalid command line
"""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from psycopg.errors import UndefinedColumn, UndefinedTable
from rest_framework.utils.encoders import JSONEncoder
from rich.console import Console
from rich.text import Text

from portfolios.text import escape_json, escape_lines, unprintable_errors
from scheduling.errors import Invalid, Refused, SnapshotUnavailable
from scheduling.presentation.problems import DATABASE_AWAY
from scheduling.request_origin import acting_from, command_line_actor, of_command


class Failed(Refused):
    """The command failed outside of its operation: a file, a time limit, or a bad outcome."""


def unreadable(path: str, error: OSError | UnicodeDecodeError) -> Failed:
    """Return the failure of a command whose file `path` cannot be read, or is not UTF-8 text."""
    why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
    return Failed("unreadable", f"{path} cannot be read: {why}.")


def read_text(path: str) -> str:
    """Return the text of a file, with its line ends as they are. Raise Failed if unreadable."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


class GinkgoCommand(BaseCommand):
    """A thin interface: parse, call one operation, show the outcome."""

    # `check` and `migrate` run the system checks; repeating them would delay every command.
    requires_system_checks: list[str] = []
    _from_shell = False  #: True in a process of its own; False if another program calls it

    def add_arguments(self, parser: CommandParser) -> None:
        """Add `--json` and the command's own arguments."""
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")
        self.arguments(parser)

    def arguments(self, parser: CommandParser) -> None:
        """Add the command's own arguments."""

    @abstractmethod
    def act(self, options: dict[str, Any]) -> None:
        """Perform the command and `show` the outcome. Raise Refused if it cannot be done."""

    def create_parser(self, prog_name: str, subcommand: str, **settings: Any) -> CommandParser:
        """Return the parser, and keep it: `refuse_unused` reads its defaults."""
        self._parser = super().create_parser(prog_name, subcommand, **settings)
        return self._parser

    def refuse_unused(self, what: str, options: dict[str, Any], *unused: str) -> None:
        """Raise CommandError if one of the options `unused` was given: `what` has no use for it."""
        for name in unused:
            if options[name] != self._parser.get_default(name):
                option = name.replace("_", "-")
                raise CommandError(f"{what} takes no --{option}.", returncode=2)

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as a process of its own: a failure prints a sentence and sets the exit code."""
        self._from_shell = True
        super().run_from_argv(argv)

    def handle(self, *args: Any, **options: Any) -> None:
        """Act, and turn failures into a sentence: the expected ones, and from the shell all."""
        self.as_json: bool = options["json"]
        try:
            refuse_unprintable_options(options)
            command = type(self).__module__.rpartition(".")[2]
            with acting_from(of_command(command)):
                self.act(options)
        except Refused as refused:
            self._fail(refused.code, refused.message, **refused.extra)
        except SnapshotUnavailable as error:
            line = _first_line(error)
            self._fail("unavailable", line[:1].upper() + line[1:])
        except DATABASE_AWAY as error:
            self._fail("unavailable", f"The database does not answer: {_first_line(error)}")
        except KeyboardInterrupt:
            self._fail("interrupted", "Interrupted; a request that was already made continues.")
        except CommandError:
            raise
        except Exception as error:
            if isinstance(error.__cause__ or error, UndefinedTable | UndefinedColumn):
                self._fail(
                    "unavailable",
                    f"The database lacks a table or a column: {_first_line(error)} "
                    "Run manage.py migrate first.",
                )
            if options["traceback"] or not self._from_shell:
                raise
            message = f"{type(error).__name__}: {_first_line(error)}"
            self._fail(
                "internal_error", f"{message} Run the command with --traceback to see where."
            )

    def _fail(self, code: str, message: str, **extra: Any) -> None:
        """Print the failure and exit with 1, or raise CommandError if a program called the command.

        With --json, `extra` becomes part of the document on stdout.
        """
        if self.as_json:
            self.stdout.write(_dumps({"code": code, "message": message, **extra}))
        if not self._from_shell:
            raise CommandError(message, returncode=1)
        self.stderr.write(escape_lines(message))
        sys.exit(1)

    def show(self, document: Any, text: str | Callable[[Console], None]) -> None:
        """Print `document` with --json, otherwise `text`: a sentence or a drawing function."""
        if self.as_json:
            self.stdout.write(_dumps(document))
        elif isinstance(text, str):
            self.stdout.write(escape_lines(text))
        else:
            text(self.console())

    def console(self) -> Console:
        """Return a console on the command's own output, which tests may redirect."""
        out: Any = self.stdout  # Django's, which ends each text with a line end; `_out` does not
        # A file has no width: rich would assume 80 columns, and cut off values of wide tables.
        width = None if out.isatty() else 160
        # Without markup, since a reason or a name may have brackets.
        return PlainConsole(file=out._out, highlight=False, markup=False, emoji=False, width=width)

    @property
    def actor(self) -> str:
        """Return the name of the operating system's user, as the audit log keeps it."""
        return command_line_actor()


class PlainConsole(Console):
    """A console that shows control characters of its texts instead of obeying them."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text with its control characters escaped."""
        return super().render_str(escape_lines(text), **options)


def refuse_unprintable_options(options: dict[str, Any]) -> None:
    """Raise Invalid for an argument that holds a control or bidirectional character."""
    errors = [
        error
        for name, value in options.items()
        if name not in ("stdout", "stderr")  # streams, when a program calls the command
        for error in unprintable_errors(name, value)
    ]
    if errors:
        raise Invalid(errors)


def _dumps(document: Any) -> str:
    return escape_json(json.dumps(document, cls=JSONEncoder, ensure_ascii=False, indent=2))


def _first_line(error: Exception) -> str:
    """Return the first line of the error's text, else the name of its class, with a full stop."""
    line = str(error).strip().split("\n", 1)[0].rstrip(".")
    return f"{line or type(error).__name__}."
