"""Secrets: names, who set them and when they were used. No page has a value."""

from __future__ import annotations

from django.contrib import admin

from portfolios.models import Secret
from scheduling.admin.base import OperatorsAdmin


@admin.register(Secret)
class SecretAdmin(OperatorsAdmin):
    """Secrets, without their values."""

    exclude = ("ciphertext",)
    list_display = ("name", "set_by", "set_at", "last_used_at", "last_used_by")
