"""The shape of commands that revoke every token of a node or a user."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling.management.arguments import add_reason
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry.operation import Operation
from scheduling.presentation.sentences import revoked_sentence


class RevokeTokensCommand(GinkgoCommand):
    """Revoke every token of the node or user that is named."""

    operation: Operation
    metavar: str

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar=self.metavar)
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Revoke the tokens and show how many were still valid."""
        name = options["name"]
        revoked = self.operation.call(name, actor=self.actor, reason=options["reason"])
        self.show({"name": name, "revoked": revoked}, revoked_sentence(revoked, name))
