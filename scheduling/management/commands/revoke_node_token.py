"""manage.py revoke_node_token NAME [--reason TEXT]"""

from __future__ import annotations

from scheduling.management.token_commands import RevokeTokensCommand
from scheduling.operations.registry import node_actions


class Command(RevokeTokensCommand):
    help = node_actions.REVOKE_NODE_TOKENS.help("a node")
    operation = node_actions.REVOKE_NODE_TOKENS
    metavar = "NAME"
