"""Making tokens: of nodes and of people. A token is returned once; only its hash is stored."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.db import transaction

from scheduling.api.permissions import Role
from scheduling.enact.audit import audit
from scheduling.enact.recipe import run
from scheduling.errors import Invalid, NotFound
from scheduling.models import ApiToken, Node, NodeToken
from scheduling.models.tokens import hash_token, new_token


@transaction.atomic
def issue_node_token(name: str, *, actor: str) -> str:
    """Return a new token of the node `name`, which is made if there is none. Older tokens stay."""
    _check_node_name(name)
    node, created = Node.objects.get_or_create(name=name)
    token = new_token()
    NodeToken.objects.create(node=node, sha256=hash_token(token), created_by=actor[:150])
    run(audit("node_token_created", node=node.pk, actor=actor, node_created=created))
    return token


def _check_node_name(name: str) -> None:
    """Raise Invalid if `name` is no slug of at most 80 characters."""
    message = ""
    try:
        validate_slug(name)
    except ValidationError:
        message = f"{name!r} is no node name: use letters, digits, hyphens and underscores"
    if len(name) > 80:
        message = f"a node name has at most 80 characters, this one has {len(name)}"
    if message:
        raise Invalid([{"field": "name", "code": "invalid", "message": message}])


def find_user(name: str) -> Any:
    """Return the user. Raise NotFound if there is none."""
    users = get_user_model()
    try:
        return users.objects.get_by_natural_key(name)
    except users.DoesNotExist:
        raise NotFound("user", name) from None


def create_user(name: str) -> Any:
    """Return the user, made without a password if there is none: it can use tokens, not sign in."""
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
    """Make `user` a member of exactly the group of `role`."""
    groups = {one: Group.objects.get_or_create(name=one.value)[0] for one in Role}
    user.groups.remove(*(group for one, group in groups.items() if one is not role))
    user.groups.add(groups[role])


@transaction.atomic
def issue_api_token(user: Any, *, actor: str) -> str:
    """Return a new token of `user`. Older tokens stay."""
    token = new_token()
    ApiToken.objects.create(user=user, sha256=hash_token(token))
    run(audit("api_token_created", actor=actor, user=user.get_username()))
    return token
