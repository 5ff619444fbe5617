"""Tokens: listed without their values; those of nodes are created, shown once, and revoked."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.base import ForOperators, TableView, actor_of
from scheduling.api.openapi import described, described_table
from scheduling.api.request_serializers import NodeTokenBody, ReasonBody, read_body
from scheduling.models import ApiToken, NodeToken, Scope
from scheduling.operations.lookup import existing
from scheduling.operations.registry import access_actions, node_actions
from scheduling.operations.tokens import NewToken, issue_node_token, revoke_token
from scheduling.presentation.serializers.access import (
    ApiTokenDocument,
    IssuedTokenDocument,
    NodeTokenDocument,
)


class ApiTokenFilters(django_filters.FilterSet):
    user = django_filters.CharFilter("user__username")
    scope = django_filters.ChoiceFilter(choices=Scope.choices)


class NodeTokenFilters(django_filters.FilterSet):
    node = django_filters.CharFilter("node__name")


@described_table("Tokens of users, newest first; for operators")
class ApiTokenList(ForOperators, TableView):
    """Tokens of users, newest first."""

    document = ApiTokenDocument
    filters = ApiTokenFilters

    def rows(self) -> QuerySet[ApiToken]:
        return ApiToken.objects.select_related("user")


@described_table("Tokens of nodes, newest first; for operators")
class NodeTokenList(ForOperators, TableView):
    """Tokens of nodes, newest first."""

    document = NodeTokenDocument
    filters = NodeTokenFilters
    keeps_answer = False

    def rows(self) -> QuerySet[NodeToken]:
        return NodeToken.objects.select_related("node")

    @described(
        IssuedTokenDocument,
        status=201,
        body=NodeTokenBody,
        performs=node_actions.ISSUE_NODE_TOKEN,
        of="a node",
    )
    def post(self, request: Request) -> Response:
        """Create a token, and the node if needed. This response alone has the token."""
        given = read_body(request, NodeTokenBody)
        token = issue_node_token(
            given["node"], actor=actor_of(request), wanted=NewToken(given["name"], given["days"])
        )
        return Response({"node": given["node"], "token": token}, status=201)


class NodeTokenDetail(ForOperators):
    """One token of a node."""

    @described(
        None,
        status=204,
        body=ReasonBody,
        performs=access_actions.REVOKE_TOKEN,
        of="a token of a node",
    )
    def delete(self, request: Request, pk: int) -> Response:
        """Revoke the token. Idempotent."""
        reason = read_body(request, ReasonBody)["reason"]
        token = existing("node token", str(pk), NodeToken.objects.filter(pk=pk))
        revoke_token(token, actor=actor_of(request), reason=reason)
        return Response(status=204)
