"""Tokens: their holders, and revoking them. Commands create tokens and show them once."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from scheduling.admin.base import AdminAction, OperatorsAdmin
from scheduling.admin.labels import label, word_column
from scheduling.models import ApiToken, NodeToken
from scheduling.operations.registry import access_actions

TIMES = ("created_by", "created_at", "expires_at", "revoked_at", "last_used_at")
STATE = word_column("state", stored=False)


def _revocation_sentence(row: Any, was_valid: bool) -> str:
    """Return that the token of a node or user is revoked, or was so before."""
    if isinstance(row, NodeToken):
        revoked = _("The token of node {name} is revoked.")
        already = _("The token of node {name} was revoked already.")
        name = str(row.node)
    else:
        revoked = _("The token of user {name} is revoked.")
        already = _("The token of user {name} was revoked already.")
        name = str(row.user)
    return str(revoked if was_valid else already).format(name=name)


class TokenAdmin(OperatorsAdmin):
    """Tokens, without their hashes."""

    exclude = ("sha256",)
    actions = (
        AdminAction(
            access_actions.REVOKE_TOKEN, _revocation_sentence, subject=lambda row: row
        ).as_action(_("selected tokens")),
    )


@admin.register(NodeToken)
class NodeTokenAdmin(TokenAdmin):
    """Tokens of node daemons."""

    list_display = ("node", "name", word_column("scope", label, stored=False), STATE, *TIMES)
    list_filter = ("node", "revoked_at")
    list_select_related = ("node",)


@admin.register(ApiToken)
class ApiTokenAdmin(TokenAdmin):
    """Tokens of users' programs."""

    list_display = ("user", "name", "scope", STATE, *TIMES)
    list_filter = ("user", "scope")
    list_select_related = ("user",)
