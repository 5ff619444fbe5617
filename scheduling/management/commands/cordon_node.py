"""manage.py cordon_node NODE [--undo] [--reason TEXT]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.presentation.documents import node_document


class Command(GinkgoCommand):
    """Place nothing new on a node."""

    help = "Place nothing new on a node; what runs there stays."

    def arguments(self, parser: CommandParser) -> None:
        """Take the node, whether to undo, and why."""
        parser.add_argument("node", metavar="NODE")
        parser.add_argument("--undo", action="store_true", help="lift the cordon")
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Set or lift the cordon."""
        name = options["node"]
        if options["undo"]:
            operations.uncordon(name, actor=self.actor)
            self.show(node_document(name), f"{name} is no longer cordoned.")
        else:
            operations.cordon(name, actor=self.actor, reason=options["reason"])
            self.show(node_document(name), f"{name} is cordoned: what runs there stays.")
