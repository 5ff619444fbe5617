"""manage.py revoke_api_token USER [--reason TEXT]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.presentation.sentences import revoked_sentence


class Command(GinkgoCommand):
    """Let nobody act as a person by an earlier token."""

    help = "Revoke every token of the person USER. Programs that use one are refused."

    def arguments(self, parser: CommandParser) -> None:
        """Take whose, and why."""
        parser.add_argument("name", metavar="USER", help="the user")
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Revoke them."""
        name = options["name"]
        revoked = operations.revoke_api_tokens(name, actor=self.actor, reason=options["reason"])
        self.show({"name": name, "revoked": revoked}, revoked_sentence(revoked, name))
