"""manage.py freeze [--undo] [--failover] [--reason TEXT] [--by NAME]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.presentation.documents import freeze_document


class Command(GinkgoCommand):
    """Hold automatic moves."""

    help = "Hold every automatic move, for maintenance; what people ask for is still done."

    def arguments(self, parser: CommandParser) -> None:
        """Take whether to undo, whether failover is held too, why, and who says so."""
        parser.add_argument("--undo", action="store_true", help="let automatic moves go on")
        parser.add_argument("--failover", action="store_true", help="hold failover too")
        parser.add_argument("--by", metavar="NAME", help="who says so; the user of the machine")
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Set or lift the freeze."""
        actor = options["by"] or self.actor
        if options["undo"]:
            operations.unfreeze(actor=actor)
            self.show(freeze_document(), "Automatic moves go on.")
            return
        operations.freeze(actor=actor, reason=options["reason"], failover=options["failover"])
        held = (
            "Automatic moves are held, failover too."
            if options["failover"]
            else ("Automatic moves are held; failover still happens.")
        )
        self.show(freeze_document(), held)
