"""manage.py revoke_api_token USER [--reason TEXT]"""

from __future__ import annotations

from scheduling.management.token_commands import RevokeTokensCommand
from scheduling.operations import registry


class Command(RevokeTokensCommand):
    help = registry.REVOKE_API_TOKENS.help("a user")
    operation = registry.REVOKE_API_TOKENS
    metavar = "USER"
