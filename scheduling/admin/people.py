"""Users and groups. Rights come from groups: operator, viewer, administrator.

An administrator (or a superuser) makes users and puts them into groups. What would lead beyond
that, superusers and single permissions, only a superuser sees and changes.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest

User = get_user_model()
BEYOND = ("is_superuser", "user_permissions")

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PeopleAdmin(UserAdmin):  # type: ignore[type-arg]
    """Who may sign in, and in which groups they are."""

    list_display = ("username", "is_active", "is_staff", "is_superuser", "last_login")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the form's fields; without those that lead beyond groups for an administrator."""
        fieldsets = super().get_fieldsets(request, obj)
        if _is_superuser(request):
            return fieldsets
        return [
            (title, {**options, "fields": tuple(f for f in options["fields"] if f not in BEYOND)})
            for title, options in fieldsets
        ]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the form can be saved: a superuser's only by a superuser."""
        if obj is not None and obj.is_superuser and not _is_superuser(request):
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody is deleted: the audit log names people. Take `active` away instead."""
        return False


@admin.register(Group)
class RoleAdmin(GroupAdmin):
    """The groups that give rights, made by `migrate`."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only a superuser makes further ones."""
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only a superuser changes what a group may do."""
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes one: the next `migrate` would bring it back without its members."""
        return False


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)
