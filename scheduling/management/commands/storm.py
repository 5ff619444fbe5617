"""manage.py storm [--release | --hold] [--reason TEXT] [--by NAME]

Without an option, show whether failover is held.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_actor, add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry import fleet_actions
from scheduling.presentation.documents import storm_document
from scheduling.presentation.sentences import held_sentence


class Command(GinkgoCommand):
    help = "Show whether failover is held; release the hold, or hold failover until it is released."

    def arguments(self, parser: CommandParser) -> None:
        group = parser.add_mutually_exclusive_group()
        for option, operation in (
            ("--release", fleet_actions.RELEASE_STORM),
            ("--hold", fleet_actions.HOLD_STORM),
        ):
            group.add_argument(option, action="store_true", help=operation.help())
        add_actor(parser)
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        given = {"actor": options["by"] or self.actor, "reason": options["reason"]}
        if options["hold"]:
            operations.hold_storm(**given)
            text = fleet_actions.HOLD_STORM.done
        elif options["release"]:
            was_held = operations.release_storm(**given)
            text = fleet_actions.RELEASE_STORM.done if was_held else "Failover was not held."
        else:
            self.refuse_unused("storm without --hold and --release", options, "reason", "by")
            storm = storm_document()
            text = held_sentence(storm) if storm["held"] else "Failover is not held."
        self.show(storm_document(), text)
