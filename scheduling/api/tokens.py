"""Tokens. Commands create tokens and show them once; the API lists them."""

from __future__ import annotations

from collections.abc import Sequence

import django_filters
from django.db.models import QuerySet
from rest_framework.permissions import BasePermission

from scheduling.api.base import TableView
from scheduling.api.openapi import described_table
from scheduling.models import ApiToken, NodeToken, Scope
from scheduling.permissions import OperatorsOnly
from scheduling.presentation.serializers import ApiTokenDocument, NodeTokenDocument


class ApiTokenFilters(django_filters.FilterSet):
    """Filters of API tokens."""

    user = django_filters.CharFilter("user__username")
    scope = django_filters.ChoiceFilter(choices=Scope.choices)


class NodeTokenFilters(django_filters.FilterSet):
    """Filters of node tokens."""

    node = django_filters.CharFilter("node__name")


@described_table("Tokens of users, newest first; for operators")
class ApiTokenList(TableView):
    """Tokens of users, newest first."""

    permission_classes: Sequence[type[BasePermission]] = (OperatorsOnly,)
    document = ApiTokenDocument
    filters = ApiTokenFilters

    def rows(self) -> QuerySet[ApiToken]:
        """Return all tokens with their users."""
        return ApiToken.objects.select_related("user")


@described_table("Tokens of nodes, newest first; for operators")
class NodeTokenList(TableView):
    """Tokens of nodes, newest first."""

    permission_classes: Sequence[type[BasePermission]] = (OperatorsOnly,)
    document = NodeTokenDocument
    filters = NodeTokenFilters

    def rows(self) -> QuerySet[NodeToken]:
        """Return all tokens with their nodes."""
        return NodeToken.objects.select_related("node")
