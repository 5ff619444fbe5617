"""Incidents: the losses of nodes, and what became of their portfolios."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.base import ApiView
from scheduling.api.openapi import described, query
from scheduling.observe.incidents import read_incident, read_incidents
from scheduling.presentation.incidents import incident_details, incident_document

MAX_INCIDENTS = 100


class IncidentDocument(serializers.Serializer[Any]):
    """The loss of one node. `back_at` is null until the node is alive again."""

    id = serializers.IntegerField()
    node = serializers.CharField()
    at = serializers.DateTimeField()
    reason = serializers.CharField()
    back_at = serializers.DateTimeField(allow_null=True)
    portfolios = serializers.IntegerField(
        help_text="Number of portfolios that the lost node owned."
    )
    placed = serializers.IntegerField(
        help_text="Number of the lost node's portfolios that have committed under a new epoch."
    )
    longest_without_owner_s = serializers.FloatField(allow_null=True)


class OutageDocument(serializers.Serializer[Any]):
    """One portfolio of the lost node, up to its next commit; `so_far_s`: while it has no owner."""

    portfolio = serializers.CharField()
    outcome = serializers.ChoiceField(["moved", "returned", "kept", "waits", "stopped", "deleted"])
    target_node = serializers.CharField(allow_null=True)
    without_owner_s = serializers.FloatField(allow_null=True)
    so_far_s = serializers.FloatField(allow_null=True)
    last_commit_at = serializers.DateTimeField(allow_null=True)
    first_commit_at = serializers.DateTimeField(allow_null=True)
    last_seq = serializers.IntegerField(allow_null=True)
    from_epoch = serializers.IntegerField()
    to_epoch = serializers.IntegerField(allow_null=True)
    suppressed = serializers.IntegerField()
    verification = serializers.CharField(
        allow_null=True,
        help_text="Result of a later verification: identical or different; null without one.",
    )
    handoff = serializers.IntegerField(allow_null=True)
    reason = serializers.CharField(
        help_text="Reason of the portfolio's present phase, such as why it has no owner."
    )


class IncidentDetailsDocument(IncidentDocument):
    """An incident with each portfolio, the most important first."""

    sentence = serializers.CharField()
    suppressed = serializers.IntegerField(
        help_text="Number of orders suppressed until the portfolios had caught up."
    )
    outages = OutageDocument(many=True)


class IncidentsDocument(serializers.Serializer[Any]):
    """The newest incidents, newest first."""

    results = IncidentDocument(many=True)


class IncidentList(ApiView):
    """The newest losses of nodes."""

    @described(
        IncidentsDocument,
        parameters=[query("node")],
        summary="The newest incidents, of one node or of all",
        operation_id="incident_list",
    )
    def get(self, request: Request) -> Response:
        """Return at most 100 incidents, newest first."""
        # PostgreSQL refuses a NUL in a text; no name has the replacement character.
        node = request.query_params.get("node", "").replace("\0", "\N{REPLACEMENT CHARACTER}")
        found = read_incidents(node, most=MAX_INCIDENTS)
        documents = [incident_document(each) for each in found]
        return Response({"results": IncidentDocument(documents, many=True).data})


class IncidentDetail(ApiView):
    """One loss of a node."""

    @described(IncidentDetailsDocument, summary="An incident and what became of each portfolio")
    def get(self, request: Request, pk: int) -> Response:
        """Return the incident."""
        return Response(IncidentDetailsDocument(incident_details(*read_incident(pk))).data)
