"""manage.py stop_portfolio NAME [--reason TEXT] [--wait SECONDS]"""

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
    """Drain a portfolio and own it nowhere."""

    help = "Stop a portfolio: it commits what it has and is owned by no node until it is started."

    def arguments(self, parser: CommandParser) -> None:
        """Take the portfolio, why, and how long to wait."""
        parser.add_argument("name", metavar="NAME", help="the portfolio")
        add_reason(parser)
        add_wait(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Ask for the handoff; wait for its end where asked."""
        handoff = operations.stop(options["name"], actor=self.actor, reason=options["reason"])
        if options["wait"]:
            handoff = wait_for(handoff, options["wait"])
        self.show(HandoffDocument(handoff).data, handoff_sentence(handoff))
