"""manage.py forget_node NODE [--reason TEXT]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry import node_actions


class Command(GinkgoCommand):
    help = node_actions.FORGET_NODE.help("a node that is gone for good")

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", metavar="NODE")
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        name = options["node"]
        operations.forget_node(name, actor=self.actor, reason=options["reason"])
        self.show({"node": name, "forgotten": True}, node_actions.FORGET_NODE.outcome(name))
