"""manage.py unpin_portfolio NAME"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.base import GinkgoCommand
from scheduling.presentation.documents import portfolio_document


class Command(GinkgoCommand):
    """Let the balancer move a portfolio again."""

    help = "End the pin that a migration by hand left: the balancer may move the portfolio again."

    def arguments(self, parser: CommandParser) -> None:
        """Take the portfolio."""
        parser.add_argument("name", metavar="NAME", help="the portfolio")

    def act(self, options: dict[str, Any]) -> None:
        """Take the pin away; without one nothing is changed."""
        name = options["name"]
        operations.unpin(name, actor=self.actor)
        self.show(portfolio_document(name), f"{name} is not pinned.")
