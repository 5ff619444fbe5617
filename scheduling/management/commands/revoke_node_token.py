"""manage.py revoke_node_token NAME [--reason TEXT]"""

from __future__ import annotations

from scheduling.management.token_commands import RevokeTokensCommand
from scheduling.operations import registry


class Command(RevokeTokensCommand):
    help = registry.REVOKE_NODE_TOKENS.help("a node")
    operation = registry.REVOKE_NODE_TOKENS
    metavar = "NAME"
