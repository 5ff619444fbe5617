"""manage.py storm [--release | --hold] [--reason TEXT] [--by NAME]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.presentation.documents import storm_document
from scheduling.presentation.sentences import held_sentence


class Command(GinkgoCommand):
    """Release a hold on failover, or hold it."""

    help = "Show whether failover is held; release the hold, or hold it until it is released."

    def arguments(self, parser: CommandParser) -> None:
        """Take which of the two, why, and who says so."""
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--release", action="store_true", help="let failover go on now")
        which.add_argument("--hold", action="store_true", help="hold it until it is released")
        parser.add_argument("--by", metavar="NAME", help="who says so; the user of the machine")
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Do it and show what is held then."""
        given: dict[str, str] = {
            "actor": options["by"] or self.actor,
            "reason": options["reason"],
        }
        if options["hold"]:
            operations.hold_storm(**given)
            said = "Failover is held until somebody releases it."
        elif options["release"]:
            released = operations.release_storm(**given)
            said = "Failover goes on." if released else "Failover was not held."
        else:
            storm = storm_document()
            said = held_sentence(storm) if storm["held"] else "Failover is not held."
        self.show(storm_document(), said)
