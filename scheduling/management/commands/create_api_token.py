"""manage.py create_api_token USER [--create --role operator|viewer]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling.api.permissions import Role
from scheduling.management.base import GinkgoCommand
from scheduling.management.tokens import create_user, find_user, give_role, issue_api_token


class Command(GinkgoCommand):
    """Let a program act as a person."""

    help = (
        "Make a token with which a program may act as USER, with that user's role. The token is "
        "shown once; only its hash is kept."
    )

    def arguments(self, parser: CommandParser) -> None:
        """Take the user, and whether to create one."""
        parser.add_argument("user", metavar="USER")
        parser.add_argument("--create", action="store_true", help="create the user if unknown")
        parser.add_argument(
            "--role", choices=[role.value for role in Role], help="put the user into this group"
        )

    def act(self, options: dict[str, Any]) -> None:
        """Make it and show it, this once."""
        name = options["user"]
        user = create_user(name) if options["create"] else find_user(name)
        if options["role"]:
            give_role(user, Role(options["role"]))
        token = issue_api_token(user, actor=self.actor)
        self.show({"user": name, "token": token}, token)
