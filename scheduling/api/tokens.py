"""Tokens by REST: which there are. The command line makes them and shows them once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import django_filters
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.permissions import BasePermission

from scheduling.api.base import TableView
from scheduling.api.openapi import described_table
from scheduling.models import ApiToken, NodeToken, Scope
from scheduling.permissions import OperatorsOnly


class TokenDocument(serializers.Serializer[Any]):
    """What is known of a token; the token itself is known to its holder alone."""

    id = serializers.IntegerField()
    name = serializers.CharField(help_text="What it is for.")
    scope = serializers.CharField(help_text="read, operate or node")
    state = serializers.ChoiceField(["valid", "expired", "revoked"])
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")


class ApiTokenDocument(TokenDocument):
    """A token of a person's program."""

    user = serializers.CharField(source="user.username")


class NodeTokenDocument(TokenDocument):
    """A token of a node's daemon."""

    node = serializers.CharField(source="node.name")


class ApiTokenFilters(django_filters.FilterSet):
    """Whose."""

    user = django_filters.CharFilter("user__username")
    scope = django_filters.ChoiceFilter(choices=Scope.choices)


class NodeTokenFilters(django_filters.FilterSet):
    """Of which node."""

    node = django_filters.CharFilter("node__name")


@described_table("Tokens of people, newest first; for operators")
class ApiTokenList(TableView):
    """Tokens of people, newest first."""

    permission_classes: Sequence[type[BasePermission]] = (OperatorsOnly,)
    document = ApiTokenDocument
    filters = ApiTokenFilters

    def rows(self) -> QuerySet[ApiToken]:
        """Return all with their users."""
        return ApiToken.objects.select_related("user")


@described_table("Tokens of nodes, newest first; for operators")
class NodeTokenList(TableView):
    """Tokens of nodes, newest first."""

    permission_classes: Sequence[type[BasePermission]] = (OperatorsOnly,)
    document = NodeTokenDocument
    filters = NodeTokenFilters

    def rows(self) -> QuerySet[NodeToken]:
        """Return all with their nodes."""
        return NodeToken.objects.select_related("node")
