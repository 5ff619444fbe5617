"""manage.py revoke_api_token USER [--reason TEXT]"""

from __future__ import annotations

from scheduling.management.token_commands import RevokeTokensCommand
from scheduling.operations.registry import access_actions


class Command(RevokeTokensCommand):
    help = access_actions.REVOKE_API_TOKENS.help("a user")
    operation = access_actions.REVOKE_API_TOKENS
    metavar = "USER"
