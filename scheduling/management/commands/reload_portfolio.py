"""manage.py reload_portfolio NAME [--revision N] [--reason TEXT] [--wait SECONDS]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling.management.arguments import positive_int
from scheduling.management.handoff_commands import HandoffCommand
from scheduling.operations.registry import portfolio_actions


class Command(HandoffCommand):
    help = portfolio_actions.RELOAD.help("a portfolio")
    operation = portfolio_actions.RELOAD

    def arguments(self, parser: CommandParser) -> None:
        super().arguments(parser)
        parser.add_argument(
            "--revision", metavar="N", type=positive_int, help="want this revision from now on"
        )

    def extra(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"revision": options["revision"]}
