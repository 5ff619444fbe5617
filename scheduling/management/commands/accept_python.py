"""manage.py accept_python VERSION [NAME …] [--all] [--undo]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from scheduling import operations
from scheduling.decide.reasons import count
from scheduling.management.base import GinkgoCommand


class Command(GinkgoCommand):
    """Let portfolios go on under another Python version."""

    help = (
        "Allow portfolios to go on under another minor version of Python than the one they last "
        "ran under, which may compute something else. For an upgrade of the nodes, see "
        "docs/decisions/0011-python-versions.md."
    )

    def arguments(self, parser: CommandParser) -> None:
        """Take the version and the portfolios."""
        parser.add_argument("version", metavar="VERSION", help="such as 3.13")
        parser.add_argument("names", metavar="NAME", nargs="*", help="the portfolios")
        parser.add_argument("--all", action="store_true", help="every portfolio")
        parser.add_argument("--undo", action="store_true", help="take the consent back")

    def act(self, options: dict[str, Any]) -> None:
        """Store the consent; one that is there already is not changed."""
        names, version = options["names"], options["version"]
        if bool(names) == options["all"]:
            raise CommandError("Give the NAME of portfolios, or --all.", returncode=2)
        found = operations.accept_python(
            "" if options["undo"] else version, None if options["all"] else names, actor=self.actor
        )
        whom = count(len(found), "portfolio")
        text = f"{whom} may go on under Python {version}."
        if options["undo"]:
            text = f"The consent of {whom} to another Python version is taken back."
        self.show({"changed": found, "version": version}, text)
