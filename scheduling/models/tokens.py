"""Tokens of nodes and of people. Only their SHA-256 is stored; the token is shown once."""

from __future__ import annotations

import hashlib
import secrets

from django.conf import settings
from django.db import models

from scheduling.models.node import Node


def hash_token(token: str) -> str:
    """Return the hex SHA-256 of `token`. Tokens are 32 random bytes, so no salt is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """Return a new token, 32 random bytes in URL-safe text."""
    return secrets.token_urlsafe(32)


class NodeToken(models.Model):
    """Lets a daemon speak for one node, until revoked."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="tokens")
    sha256 = models.CharField(max_length=64, unique=True)
    created_by = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"token of {self.node}"


class ApiToken(models.Model):
    """Lets a program act as one person, with that person's role, until revoked."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"token of {self.user}"
