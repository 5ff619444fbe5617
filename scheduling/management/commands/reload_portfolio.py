"""manage.py reload_portfolio NAME [--revision N] [--reason TEXT] [--wait SECONDS]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason, add_wait, positive_int
from scheduling.management.base import GinkgoCommand
from scheduling.management.handoff_wait import wait_for
from scheduling.presentation.sentences import handoff_sentence
from scheduling.presentation.serializers import HandoffDocument


class Command(GinkgoCommand):
    """Restart a portfolio on its node, make before break."""

    help = "Restart a portfolio on its node, make before break, with the wanted revision."

    def arguments(self, parser: CommandParser) -> None:
        """Take the portfolio, a revision, why, and how long to wait."""
        parser.add_argument("name", metavar="NAME", help="the portfolio")
        parser.add_argument(
            "--revision", metavar="N", type=positive_int, help="another revision than the wanted"
        )
        add_reason(parser)
        add_wait(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Ask for the handoff; wait for its end where asked."""
        handoff = operations.reload(
            options["name"],
            actor=self.actor,
            reason=options["reason"],
            revision=options["revision"],
        )
        if options["wait"]:
            handoff = wait_for(handoff, options["wait"])
        self.show(HandoffDocument(handoff).data, handoff_sentence(handoff))
