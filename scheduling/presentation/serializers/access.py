"""Tokens and secrets, without their values."""

from __future__ import annotations

from rest_framework import serializers

from scheduling.presentation.serializers.fields import Document


class TokenDocument(Document):
    """A token without its value, which only its holder knows."""

    id = serializers.IntegerField()
    name = serializers.CharField(help_text="Purpose of the token.")
    scope = serializers.CharField(help_text="What the token allows: read, operate or node.")
    state = serializers.ChoiceField(["valid", "expired", "revoked"])
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(
        allow_null=True,
        help_text="Last recorded use of the token; a use within a minute of it is not recorded.",
    )


class ApiTokenDocument(TokenDocument):
    """A token of a user's program."""

    user = serializers.CharField(source="user.username")


class NodeTokenDocument(TokenDocument):
    """A token of a node's daemon."""

    node = serializers.CharField(source="node.name")


class IssuedTokenDocument(Document):
    """A token that was created now. No later response has it."""

    node = serializers.CharField()
    token = serializers.CharField()


class SecretDocument(Document):
    """A secret without its value, which no interface returns."""

    name = serializers.CharField()
    set_at = serializers.DateTimeField(help_text="When the secret was last given a value.")
    set_by = serializers.CharField()
    last_used_at = serializers.DateTimeField(
        allow_null=True,
        help_text="Last recorded use of the secret; a use within a minute of it is not recorded.",
    )
    last_used_by = serializers.CharField()
