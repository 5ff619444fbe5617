"""manage.py freeze [--undo] [--failover] [--reason TEXT] [--by NAME]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_actor, add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry import fleet_actions
from scheduling.presentation.documents import freeze_document


class Command(GinkgoCommand):
    help = fleet_actions.FREEZE.help()

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--undo", action="store_true", help=fleet_actions.UNFREEZE.summary())
        for option, text in fleet_actions.FREEZE.options:
            parser.add_argument(f"--{option}", action="store_true", help=text)
        add_actor(parser)
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        actor = options["by"] or self.actor
        if options["undo"]:
            freeze_options = (option for option, _help in fleet_actions.FREEZE.options)
            self.refuse_unused("--undo", options, "reason", *freeze_options)
            operations.unfreeze(actor=actor)
            self.show(freeze_document(), fleet_actions.UNFREEZE.done)
            return
        held = options["failover"]
        operations.freeze(actor=actor, reason=options["reason"], failover=held)
        failover = "Failover is held too." if held else "Failover continues."
        self.show(freeze_document(), f"{fleet_actions.FREEZE.done} {failover}")
