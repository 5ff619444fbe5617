"""manage.py accept_python VERSION [NAME …] [--all] [--undo]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from scheduling import operations
from scheduling.decide.reasons import count
from scheduling.management.arguments import not_empty
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry import portfolio_actions


class Command(GinkgoCommand):
    help = (
        portfolio_actions.ACCEPT_PYTHON.help("portfolios")
        + " See docs/decisions/0011-python-versions.md."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", metavar="VERSION", type=not_empty, help="such as 3.13")
        parser.add_argument("names", metavar="NAME", nargs="*", help="the portfolios")
        parser.add_argument("--all", action="store_true", help="every portfolio")
        parser.add_argument("--undo", action="store_true", help="withdraw the consent")

    def act(self, options: dict[str, Any]) -> None:
        names, version = options["names"], options["version"]
        if bool(names) == options["all"]:
            raise CommandError(
                "Give the NAMEs of portfolios, or --all in place of them.", returncode=2
            )
        # "" withdraws the consent; None stands for every portfolio.
        changed = operations.accept_python(
            "" if options["undo"] else version, None if options["all"] else names, actor=self.actor
        )
        portfolios = count(len(changed), "portfolio")
        text = f"{portfolios} may also run under Python {version}."
        if options["undo"]:
            text = f"The consent to another Python version is withdrawn for {portfolios}."
        self.show({"changed": changed, "version": version}, text)
