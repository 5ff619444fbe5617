"""Users and groups. Permissions come from groups: operator, viewer, administrator.

An administrator or a superuser creates users and puts them into groups. Only a superuser makes
superusers and gives single permissions, which would allow more than the groups do.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest

User = get_user_model()
SUPERUSER_FIELDS = ("is_superuser", "user_permissions")

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PeopleAdmin(UserAdmin):  # type: ignore[type-arg]
    """Users and their groups."""

    list_display = ("username", "is_active", "is_staff", "is_superuser", "last_login")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the form's fields; SUPERUSER_FIELDS are for superusers only."""
        fieldsets = super().get_fieldsets(request, obj)
        if _is_superuser(request):
            return fieldsets
        return [
            (
                title,
                {
                    **options,
                    "fields": tuple(f for f in options["fields"] if f not in SUPERUSER_FIELDS),
                },
            )
            for title, options in fieldsets
        ]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the form can be saved. Only superusers change superusers."""
        if obj is not None and obj.is_superuser and not _is_superuser(request):
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Forbid: the audit log names users. Deactivate the user instead."""
        return False


@admin.register(Group)
class RoleAdmin(GroupAdmin):
    """The groups that give permissions, created by `migrate`; only superusers change them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Forbid: the next `migrate` would create the group again, without its members."""
        return False


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)
