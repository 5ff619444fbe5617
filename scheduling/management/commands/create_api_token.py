"""manage.py create_api_token USER [--create --role R] [--name TEXT] [--scope S] [--days N]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from scheduling.management.arguments import add_token_options, read_token_options
from scheduling.management.base import GinkgoCommand
from scheduling.models import Scope
from scheduling.operations.tokens import issue_api_token
from scheduling.operations.users import find_or_create_user, find_user, give_role
from scheduling.permissions import Role


class Command(GinkgoCommand):
    help = (
        "Create a token with which a program may act as USER, with that user's role. The token is "
        "shown once; only its hash is stored. list_tokens lists the tokens."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER")
        parser.add_argument("--create", action="store_true", help="create a missing user")
        parser.add_argument(
            "--role", choices=[role.value for role in Role], help="put the user into this group"
        )
        parser.add_argument(
            "--scope",
            choices=Scope.values,
            default=Scope.OPERATE.value,
            help="read: GET only, whatever the user may do",
        )
        add_token_options(parser)

    def act(self, options: dict[str, Any]) -> None:
        name = options["user"]
        with transaction.atomic():  # an option that is refused leaves no new user or role
            user = find_or_create_user(name) if options["create"] else find_user(name)
            if options["role"]:
                give_role(user, Role(options["role"]))
            token = issue_api_token(user, actor=self.actor, wanted=read_token_options(options))
        self.show({"user": name, "token": token}, token)
