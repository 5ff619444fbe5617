"""manage.py unpin_portfolio NAME"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry import portfolio_actions
from scheduling.presentation.documents import portfolio_document


class Command(GinkgoCommand):
    help = portfolio_actions.UNPIN.help("a portfolio")

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the portfolio")

    def act(self, options: dict[str, Any]) -> None:
        name = options["name"]
        operations.unpin(name, actor=self.actor)
        self.show(portfolio_document(name), portfolio_actions.UNPIN.outcome(name))
