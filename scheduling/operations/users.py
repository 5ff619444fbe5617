"""Find, create and assign roles to users."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction

from scheduling.errors import Invalid, NotFound
from scheduling.permissions import Role


def find_user(name: str) -> Any:
    """Return the user, or raise NotFound."""
    users = get_user_model()
    try:
        return users.objects.get_by_natural_key(name)
    except users.DoesNotExist:
        raise NotFound("user", name) from None


def create_user(name: str) -> Any:
    """Return the user, creating it if needed without a password: it can use tokens, not sign in."""
    users = get_user_model()
    user = users.objects.filter(username=name).first()
    if user is not None:
        return user
    user = users(username=name)
    user.set_unusable_password()
    try:
        user.full_clean(exclude=["password"])
    except ValidationError as error:
        raise Invalid(
            [{"field": "user", "code": "invalid", "message": " ".join(error.messages)}]
        ) from None
    user.save()
    return user


@transaction.atomic
def give_role(user: Any, role: Role) -> None:
    """Put `user` into the group of `role` and into no other role's group."""
    groups = {one: Group.objects.get_or_create(name=one.value)[0] for one in Role}
    user.groups.remove(*(group for one, group in groups.items() if one is not role))
    user.groups.add(groups[role])
