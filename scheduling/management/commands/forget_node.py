"""manage.py forget_node NODE [--reason TEXT]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand


class Command(GinkgoCommand):
    """Take a node that is gone for good off every list."""

    help = (
        "Forget a node that is gone for good and revoke its tokens. Refused while its lease is "
        "valid or it owns anything. Its history keeps the name; a new token brings it back."
    )

    def arguments(self, parser: CommandParser) -> None:
        """Take the node, and why."""
        parser.add_argument("node", metavar="NODE")
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Forget it."""
        name = options["node"]
        operations.forget_node(name, actor=self.actor, reason=options["reason"])
        self.show(
            {"node": name, "forgotten": True}, f"{name} is forgotten; its tokens are revoked."
        )
