"""Tokens: who has one, and revoking them. The command line makes them and shows them once."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from scheduling.admin.base import AdminAction, FleetAdmin, acting
from scheduling.models import ApiToken, NodeToken
from scheduling.operations.tokens import revoke
from scheduling.permissions import may_act


def _revoke(row: Any, actor: str, fields: dict[str, str]) -> str:
    changed = revoke(type(row).objects.filter(pk=row.pk), actor=actor)
    if changed != 1:  # another operator got there first
        return f"The {row} was revoked already."
    return f"The {row} is revoked: whoever uses it is refused from now on."


REVOKE = AdminAction(
    verb="Revoke",
    consequence="Whoever uses these tokens is refused from now on. A daemon that loses its token "
    "ends, and its portfolios move when its lease is over.",
    do=_revoke,
    reason=False,
)


TIMES = ("created_by", "created_at", "expires_at", "revoked_at", "last_used_at")


class TokenAdmin(FleetAdmin):
    """Rows with a hash that is of no use to anybody; shown to operators only."""

    exclude = ("sha256",)
    actions = (acting("Revoke…", REVOKE),)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the model is listed."""
        return may_act(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether rows are shown."""
        return may_act(request.user)


@admin.register(NodeToken)
class NodeTokenAdmin(TokenAdmin):
    """Tokens of daemons."""

    list_display = ("node", "name", "scope", "state", *TIMES)
    list_filter = ("node", "revoked_at")
    list_select_related = ("node",)


@admin.register(ApiToken)
class ApiTokenAdmin(TokenAdmin):
    """Tokens of people's programs."""

    list_display = ("user", "name", "scope", "state", *TIMES)
    list_filter = ("user", "scope")
    list_select_related = ("user",)
