"""manage.py drain_node NODE [--undo] [--reason TEXT]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.decide.reasons import count
from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.presentation.documents import node_document


class Command(GinkgoCommand):
    """Hand off everything a node has."""

    help = "Place nothing new on a node and hand off what it has, one after the other."

    def arguments(self, parser: CommandParser) -> None:
        """Take the node, whether to undo, and why."""
        parser.add_argument("node", metavar="NODE")
        parser.add_argument("--undo", action="store_true", help="end the drain")
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Begin or end the drain."""
        name = options["node"]
        if options["undo"]:
            operations.undrain(name, actor=self.actor)
            self.show(node_document(name), f"{name} is no longer draining.")
        else:
            operations.drain(name, actor=self.actor, reason=options["reason"])
            document = node_document(name)
            left = len(document["portfolios"])
            self.show(document, f"{name} is draining: {count(left, 'portfolio')} to hand off.")
