"""manage.py create_node_token NAME [--name TEXT] [--days N]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling.management.arguments import add_token_options, read_token_options
from scheduling.management.base import GinkgoCommand
from scheduling.operations.tokens import issue_node_token


class Command(GinkgoCommand):
    help = (
        "Create a token with which a daemon may run as the node NAME, and the node itself if there "
        "is none. The token is shown once; only its hash is stored. Give it to the daemon in a "
        "file (bin/node --token-file) or in GINKGO_NODE_TOKEN. list_tokens lists the tokens."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the node")
        add_token_options(parser)

    def act(self, options: dict[str, Any]) -> None:
        name = options["name"]
        token = issue_node_token(name, actor=self.actor, wanted=read_token_options(options))
        self.show({"name": name, "token": token}, token)
