"""Tokens of nodes and of users. Only their SHA-256 is stored; the token is shown once."""

from __future__ import annotations

import hashlib
import secrets

from django.conf import settings
from django.db import models
from django.utils import timezone

from scheduling.models.node import Node


def hash_token(token: str) -> str:
    """Return the hex SHA-256 of `token`. Tokens are 32 random bytes, so no salt is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """Return a new token, 32 random bytes in URL-safe text."""
    return secrets.token_urlsafe(32)


class Scope(models.TextChoices):
    """The rights of a token; never more than those of its user."""

    READ = "read"
    OPERATE = "operate"


class Token(models.Model):
    """Fields that the tokens of nodes and of users share."""

    name = models.CharField(
        max_length=80, blank=True, default="", db_default="", help_text="What the token is for."
    )
    sha256 = models.CharField(max_length=64, unique=True)
    created_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(
        null=True, blank=True, help_text="Time of the last use; updated at most once a minute."
    )

    class Meta:
        abstract = True

    @property
    def state(self) -> str:
        """Return `revoked`, `expired` or `valid`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= timezone.now():
            return "expired"
        return "valid"


class NodeToken(Token):
    """Lets a daemon act as one node, until the token expires or is revoked."""

    scope = "node"  #: as lists of tokens show it; an ApiToken has a field of this name

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="tokens")

    def __str__(self) -> str:
        return f"token of {self.node}"


class ApiToken(Token):
    """Lets a program act as one user, with that user's role, until it expires or is revoked."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    scope = models.CharField(
        max_length=8, choices=Scope.choices, default=Scope.OPERATE, db_default=Scope.OPERATE
    )

    def __str__(self) -> str:
        return f"token of {self.user}"
