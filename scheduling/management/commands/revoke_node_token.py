"""manage.py revoke_node_token NAME [--reason TEXT]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.presentation.sentences import revoked_sentence


class Command(GinkgoCommand):
    """Let nobody speak for a node by an earlier token."""

    help = (
        "Revoke every token of the node NAME. Its daemon ends, and its portfolios move when its "
        "lease is over."
    )

    def arguments(self, parser: CommandParser) -> None:
        """Take whose, and why."""
        parser.add_argument("name", metavar="NAME", help="the node")
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Revoke them."""
        name = options["name"]
        revoked = operations.revoke_node_tokens(name, actor=self.actor, reason=options["reason"])
        self.show({"name": name, "revoked": revoked}, revoked_sentence(revoked, name))
