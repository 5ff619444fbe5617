"""manage.py reload_portfolio NAME [--revision N] [--reason TEXT] [--wait SECONDS]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import positive_int
from scheduling.management.handoff_commands import HandoffCommand
from scheduling.models import Handoff
from scheduling.operations.registry import portfolio_actions


class Command(HandoffCommand):
    help = portfolio_actions.RELOAD.help("a portfolio")

    def arguments(self, parser: CommandParser) -> None:
        super().arguments(parser)
        parser.add_argument(
            "--revision", metavar="N", type=positive_int, help="want this revision from now on"
        )

    def request(self, options: dict[str, Any], *, actor: str, reason: str) -> Handoff:
        return operations.reload(
            options["name"], actor=actor, reason=reason, revision=options["revision"]
        )
