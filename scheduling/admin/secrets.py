"""Secrets: names, who set them and when they were used. No page has a value."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from portfolios.models import Secret
from scheduling.admin.base import FleetAdmin
from scheduling.permissions import may_act


@admin.register(Secret)
class SecretAdmin(FleetAdmin):
    """Secrets, without their values; shown to operators only."""

    exclude = ("ciphertext",)
    list_display = ("name", "set_by", "set_at", "last_used_at", "last_used_by")

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the model is listed."""
        return may_act(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether rows are shown."""
        return may_act(request.user)
