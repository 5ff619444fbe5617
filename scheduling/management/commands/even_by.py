"""manage.py even_by weight|cpu [--reason TEXT] [--by NAME]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.models.fleet_control import EvenBy
from scheduling.presentation.documents import policy_document


class Command(GinkgoCommand):
    """Choose what a rebalance evens out."""

    help = "Even out nodes by the weight they hold or by their measured cpu."

    def arguments(self, parser: CommandParser) -> None:
        """Take by what, why, and who says so."""
        parser.add_argument("what", choices=EvenBy.values, help="what a rebalance evens out")
        parser.add_argument("--by", metavar="NAME", help="who says so; the user of the machine")
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Set the choice."""
        what = options["what"]
        operations.even_by(what, actor=options["by"] or self.actor, reason=options["reason"])
        by = "the weight they hold" if what == EvenBy.WEIGHT else "their measured cpu"
        self.show(policy_document(), f"Nodes are evened out by {by}; what fits is up to weight.")
