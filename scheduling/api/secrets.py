"""Secrets: set and deleted, listed by name, never returned."""

from __future__ import annotations

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from portfolios.models import Secret
from scheduling.api.base import ForOperators, TableView, actor_of
from scheduling.api.openapi import described, described_table
from scheduling.api.request_serializers import SecretBody, read_body
from scheduling.operations.registry import access_actions
from scheduling.presentation.serializers.access import SecretDocument


@described_table("Secrets by name, without their values; for operators")
class SecretList(ForOperators, TableView):
    """Secrets by name, without their values."""

    document = SecretDocument
    order = ("name",)

    def rows(self) -> QuerySet[Secret]:
        return Secret.objects.defer("ciphertext")

    @described(
        SecretDocument, body=SecretBody, performs=access_actions.SET_SECRET, summary="Set a secret"
    )
    def post(self, request: Request) -> Response:
        """Store a value, new or replaced. The response has no value."""
        given = read_body(request, SecretBody)
        row = access_actions.SET_SECRET.call(given["name"], given["value"], actor=actor_of(request))
        return Response(SecretDocument(row).data)


class SecretDetail(ForOperators):
    """One secret, which can only be deleted: its value is never shown."""

    @described(status=204, performs=access_actions.DELETE_SECRET, summary="Delete a secret")
    def delete(self, request: Request, name: str) -> Response:
        """Delete the secret of the path."""
        access_actions.DELETE_SECRET.call(name, actor=actor_of(request))
        return Response(status=204)
