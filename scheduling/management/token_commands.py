"""Making tokens: of nodes and of people. A token is returned once; only its hash is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.db import transaction
from django.utils import timezone

from portfolios.text import shown, text_errors
from scheduling.db.transaction import execute
from scheduling.enact.audit_log import audit
from scheduling.errors import Invalid, NotFound
from scheduling.models import ApiToken, Node, NodeToken, Scope
from scheduling.models.tokens import hash_token, new_token
from scheduling.permissions import Role


@dataclass(frozen=True, slots=True)
class NewToken:
    """What a person may say of a token that is to be made."""

    name: str = ""  #: what it is for
    days: int | None = None  #: how long it is valid; None: until it is revoked
    scope: Scope = Scope.OPERATE  #: of a person's

    @property
    def expires_at(self) -> datetime | None:
        """When it ends."""
        return None if self.days is None else timezone.now() + timedelta(days=self.days)

    def check(self) -> None:
        """Raise Invalid if it cannot be kept."""
        errors = text_errors("name", self.name, longest=80)
        if self.days is not None and not 1 <= self.days <= MAX_DAYS:
            message = f"days is {self.days}; a token is valid for 1 to {MAX_DAYS:,} days."
            errors.append({"field": "days", "code": "out_of_range", "message": message})
        if errors:
            raise Invalid(errors)


#: Ten years; one that is to be valid for longer is given no end.
MAX_DAYS = 3650


@transaction.atomic
def issue_node_token(name: str, *, actor: str, wanted: NewToken | None = None) -> str:
    """Return a new token of the node `name`, which is made if there is none. Older tokens stay."""
    wanted = wanted or NewToken()
    _check_node_name(name)
    wanted.check()
    node, created = Node.objects.get_or_create(name=name)
    token = new_token()
    row = NodeToken.objects.create(
        node=node,
        sha256=hash_token(token),
        created_by=actor[:150],
        name=wanted.name,
        expires_at=wanted.expires_at,
    )
    execute(
        audit(
            "node_token_created",
            node=node.pk,
            actor=actor,
            node_created=created,
            token=row.pk,
            name=wanted.name,
            expires_at=_iso(row.expires_at),
        )
    )
    return token


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _check_node_name(name: str) -> None:
    """Raise Invalid if `name` is no slug of at most 80 characters."""
    message = ""
    try:
        validate_slug(name)
    except ValidationError:
        message = (
            f"{shown(name)} is not a valid node name: use letters, digits, hyphens and underscores"
        )
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
def issue_api_token(user: Any, *, actor: str, wanted: NewToken | None = None) -> str:
    """Return a new token of `user`. Older tokens stay."""
    wanted = wanted or NewToken()
    wanted.check()
    token = new_token()
    row = ApiToken.objects.create(
        user=user,
        sha256=hash_token(token),
        created_by=actor[:150],
        name=wanted.name,
        scope=wanted.scope,
        expires_at=wanted.expires_at,
    )
    execute(
        audit(
            "api_token_created",
            actor=actor,
            user=user.get_username(),
            token=row.pk,
            name=wanted.name,
            scope=wanted.scope.value,
            expires_at=_iso(row.expires_at),
        )
    )
    return token
