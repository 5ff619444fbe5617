"""Roles and permissions, for all interfaces: API, admin, dashboard and its socket.

operator   a superuser, or a member of the group `operator`: reads and acts
viewer     a member of the group `viewer`: reads
none       all other users: see nothing of the fleet

A member of the group `administrator` creates users and puts them into groups, in the admin. That
alone gives no access to the fleet.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:  # circular at run time: REST framework's views import a class named in settings
    from rest_framework.views import APIView

OPERATOR_GROUP = "operator"
VIEWER_GROUP = "viewer"
ADMINISTRATOR_GROUP = "administrator"
NOT_AN_OPERATOR = (
    f"{{}} is not in the group {OPERATOR_GROUP}: ask an administrator to be added to it."
)

#: Permissions of the group in the admin: (app, permission).
ADMINISTRATOR_RIGHTS = (
    ("auth", "add_user"),
    ("auth", "change_user"),
    ("auth", "view_user"),
    ("auth", "view_group"),
)


class Role(StrEnum):
    """The role of a user."""

    OPERATOR = "operator"
    VIEWER = "viewer"


def role_of(user: Any) -> Role | None:
    """Return the role of `user`, or None if the user has no access.

    At most one statement per user object, since a request asks several times.
    """
    if user is None or not user.is_authenticated or not user.is_active:
        return None
    if user.is_superuser:
        return Role.OPERATOR
    if not hasattr(user, "_ginkgo_groups"):
        wanted = user.groups.filter(name__in=(OPERATOR_GROUP, VIEWER_GROUP))
        user._ginkgo_groups = frozenset(wanted.values_list("name", flat=True))
    if OPERATOR_GROUP in user._ginkgo_groups:
        return Role.OPERATOR
    return Role.VIEWER if VIEWER_GROUP in user._ginkgo_groups else None


def may_read(user: Any) -> bool:
    """Return whether `user` may read the fleet."""
    return role_of(user) is not None


def may_act(user: Any) -> bool:
    """Return whether `user` may change anything."""
    return role_of(user) is Role.OPERATOR


class ViewersReadOperatorsAct(BasePermission):
    """Allow safe methods to viewers and operators, all others to operators only."""

    message = ""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return whether the request is allowed; if not, set the sentence in `message`."""
        if request.method in SAFE_METHODS:
            self.message = (
                f"{request.user} is in neither of the groups {OPERATOR_GROUP} and {VIEWER_GROUP}: "
                "ask an administrator to be added to one of them."
            )
            return may_read(request.user)
        if getattr(request.auth, "scope", None) == "read":
            self.message = (
                "This token may only read: use a token with the scope operate, created with "
                "manage.py create_api_token USER --scope operate."
            )
            return False
        self.message = NOT_AN_OPERATOR.format(request.user)
        return may_act(request.user)


class OperatorsOnly(ViewersReadOperatorsAct):
    """Allow all methods to operators only."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return whether the request is allowed; if not, set the sentence in `message`."""
        if not super().has_permission(request, view):
            return False
        self.message = NOT_AN_OPERATOR.format(request.user)
        return may_act(request.user)
