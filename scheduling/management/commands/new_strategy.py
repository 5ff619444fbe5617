"""manage.py new_strategy NAME [--directory D]"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from portfolios.scaffold.scaffold import CannotScaffold, read_name, write_package
from scheduling.errors import Refused
from scheduling.management.base import GinkgoCommand


class Command(GinkgoCommand):
    help = (
        "Write the package of a new strategy: its code, a test that runs it over bars, and a "
        "README with the commands to test, build and backtest it. Overwrites nothing."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="such as mean-gap")
        parser.add_argument(
            "--directory", metavar="D", help="a missing or empty folder, by default NAME here"
        )

    def act(self, options: dict[str, Any]) -> None:
        try:
            names = read_name(options["name"])
            folder = Path(options["directory"] or options["name"])
            written = write_package(names, folder)
        except CannotScaffold as error:
            raise Refused("cannot_scaffold", str(error)) from None
        document = {
            "strategy": names.strategy,
            "directory": str(folder),
            "files": [str(path.relative_to(folder)) for path in written],
        }
        listed = "\n".join(f"  {path}" for path in written)
        self.show(
            document,
            f"The strategy {names.strategy} was written:\n{listed}\n"
            f"{folder / 'README.md'} has the commands to test it and to run it over past data.",
        )
