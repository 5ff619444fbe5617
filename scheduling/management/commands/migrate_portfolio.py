"""manage.py migrate_portfolio NAME [--to NODE] [--reason TEXT] [--wait SECONDS]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason, add_wait
from scheduling.management.base import GinkgoCommand
from scheduling.management.handoff_wait import wait_for
from scheduling.presentation.sentences import handoff_sentence
from scheduling.presentation.serializers import HandoffDocument


class Command(GinkgoCommand):
    """Move a portfolio to another node, make before break."""

    help = (
        "Move a portfolio to another node, make before break. Without --to the balancer chooses. "
        "A node chosen by name keeps the portfolio until it is unpinned."
    )

    def arguments(self, parser: CommandParser) -> None:
        """Take the portfolio, the node, why, and how long to wait."""
        parser.add_argument("name", metavar="NAME", help="the portfolio")
        parser.add_argument("--to", metavar="NODE", help="the node; the balancer chooses if absent")
        add_reason(parser)
        add_wait(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Ask for the handoff; wait for its end where asked."""
        handoff = operations.migrate(
            options["name"], options["to"], actor=self.actor, reason=options["reason"]
        )
        if options["wait"]:
            handoff = wait_for(handoff, options["wait"])
        self.show(HandoffDocument(handoff).data, handoff_sentence(handoff))
