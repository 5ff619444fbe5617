"""manage.py start_portfolio NAME [--reason TEXT] [--wait SECONDS]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason, add_wait
from scheduling.management.base import GinkgoCommand
from scheduling.management.handoff_wait import wait_for, wait_for_running
from scheduling.presentation.sentences import handoff_sentence
from scheduling.presentation.serializers import HandoffDocument


class Command(GinkgoCommand):
    """Want a portfolio running."""

    help = "Start a portfolio that was stopped, halted or quarantined."

    def arguments(self, parser: CommandParser) -> None:
        """Take the portfolio, why, and how long to wait."""
        parser.add_argument("name", metavar="NAME", help="the portfolio")
        add_reason(parser)
        add_wait(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Say that it should run; wait until it commits where asked."""
        name = options["name"]
        handoff = operations.start(name, actor=self.actor, reason=options["reason"])
        if options["wait"] and handoff is None:
            handoff = wait_for_running(name, options["wait"])
        elif options["wait"] and handoff is not None:
            handoff = wait_for(handoff, options["wait"])
        if handoff is None:
            document = {"portfolio": name, "handoff": None}
            self.show(document, f"{name} is pending: the balancer places it at its next pass.")
        else:
            self.show(HandoffDocument(handoff).data, handoff_sentence(handoff))
