"""manage.py migrate_portfolio NAME [--to NODE] [--reason TEXT] [--wait SECONDS]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.handoff_commands import HandoffCommand
from scheduling.models import Handoff
from scheduling.operations.registry import portfolio_actions


class Command(HandoffCommand):
    help = portfolio_actions.MIGRATE.help("a portfolio")

    def arguments(self, parser: CommandParser) -> None:
        """Add `--to`."""
        super().arguments(parser)
        parser.add_argument(
            "--to", metavar="NODE", help="the target, by default chosen by the balancer"
        )

    def request(self, options: dict[str, Any], *, actor: str, reason: str) -> Handoff:
        """Begin the move."""
        return operations.migrate(options["name"], options["to"], actor=actor, reason=reason)
