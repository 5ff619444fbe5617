"""manage.py even_by weight|cpu [--reason TEXT] [--by NAME]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_actor, add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.models.fleet_control import EvenBy
from scheduling.operations.registry import fleet_actions
from scheduling.presentation.documents import policy_document


class Command(GinkgoCommand):
    help = fleet_actions.EVEN_BY.help()

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", choices=EvenBy.values, help="the measure to rebalance by")
        add_actor(parser)
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        measure = options["what"]
        operations.even_by(measure, actor=options["by"] or self.actor, reason=options["reason"])
        by = "the weight they hold" if measure == EvenBy.WEIGHT else "their measured cpu"
        self.show(
            policy_document(),
            f"Nodes are rebalanced by {by}. Whether a portfolio fits is decided by weight.",
        )
