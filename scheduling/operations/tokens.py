"""Issue and revoke tokens of nodes and users. A token is returned once; only its hash is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.db import transaction
from django.utils import timezone

from portfolios.sentences import sentence as _
from portfolios.text import quoted, text_errors
from scheduling.db.transaction import execute
from scheduling.enact import tokens
from scheduling.enact.audit_log import audit
from scheduling.errors import Invalid, NotFound
from scheduling.models import ApiToken, Node, NodeToken, Scope
from scheduling.models.tokens import hash_token, new_token
from scheduling.operations.lookup import existing


@dataclass(frozen=True, slots=True)
class NewToken:
    """The options of a new token."""

    name: str = ""  #: its purpose
    days: int | None = None  #: its lifetime; None: valid until revoked
    scope: Scope = Scope.OPERATE  #: of an API token

    @property
    def expires_at(self) -> datetime | None:
        """Return the time `days` from now, at which the token expires, or None."""
        return None if self.days is None else timezone.now() + timedelta(days=self.days)

    def check(self) -> None:
        """Raise Invalid if an option is out of range."""
        errors = text_errors("name", self.name, longest=80)
        if self.days is not None and not 1 <= self.days <= MAX_DAYS:
            message = _(
                "days is {days}; a token is valid for 1 to {max_days:,} days.",
                days=self.days,
                max_days=MAX_DAYS,
            )
            errors.append({"field": "days", "code": "out_of_range", "message": message})
        if errors:
            raise Invalid(errors)


#: Ten years; a token that should be valid for longer gets no expiry.
MAX_DAYS = 3650


@transaction.atomic
def issue_node_token(name: str, *, actor: str, wanted: NewToken | None = None) -> str:
    """Return a new token of the node `name`, which is created if needed. Older tokens stay valid.

    Raise Invalid for a malformed node name or a wrong option.
    """
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
    """Raise Invalid if `name` is not a slug of at most 80 characters."""
    message = ""
    try:
        validate_slug(name)
    except ValidationError:
        message = _(
            "{name} is not a valid node name: use letters, digits, hyphens and underscores",
            name=quoted(name),
        )
    if len(name) > 80:
        message = _(
            "a node name has at most 80 characters, this one has {number}", number=len(name)
        )
    if message:
        raise Invalid([{"field": "name", "code": "invalid", "message": message}])


@transaction.atomic
def issue_api_token(user: User, *, actor: str, wanted: NewToken | None = None) -> str:
    """Return a new token of `user`. Older tokens stay valid. Raise Invalid for a wrong option."""
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


def revoke_node_tokens(name: str, *, actor: str, reason: str = "") -> int:
    """Revoke every token of the node `name`. Return how many were still valid. Raise NotFound.

    The daemon exits at its next request, and its portfolios fail over when its lease expires.
    """
    node = existing("node", name, Node.objects.filter(name=name))
    return execute(tokens.revoke_node_tokens(node=node.pk, actor=actor, reason=reason))


def revoke_api_tokens(username: str, *, actor: str, reason: str = "") -> int:
    """Revoke every token of the user. Return how many were still valid.

    Raise NotFound for a user who never had one.
    """
    if not ApiToken.objects.filter(user__username=username).exists():
        raise NotFound("token of a user", username)
    return execute(tokens.revoke_api_tokens(username=username, actor=actor, reason=reason))


def revoke_token(token: NodeToken | ApiToken, *, actor: str, reason: str = "") -> bool:
    """Revoke one token. Return False if it was revoked already."""
    revoke = tokens.revoke_api_tokens if isinstance(token, ApiToken) else tokens.revoke_node_tokens
    return execute(revoke(token=token.pk, actor=actor, reason=reason)) == 1
