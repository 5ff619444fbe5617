"""The balancer's policy, as operators choose it."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling import operations
from scheduling.api.base import ApiView, actor_of
from scheduling.api.openapi import described
from scheduling.api.request_serializers import ReasonBody, read_body
from scheduling.models.fleet_control import EvenBy
from scheduling.operations.registry import fleet_actions
from scheduling.presentation.documents import policy_document
from scheduling.presentation.serializers.fleet import PolicyDocument


class PolicyBody(ReasonBody):
    """`even_by`: the measure to rebalance by. Weight alone decides what fits."""

    even_by = serializers.ChoiceField(EvenBy.choices)


class SchedulePolicy(ApiView):
    """The balancer's policy."""

    @described(PolicyDocument, summary="The policy in force")
    def get(self, request: Request) -> Response:
        """Return the policy in force."""
        return Response(policy_document())

    @described(PolicyDocument, body=PolicyBody, performs=fleet_actions.EVEN_BY)
    def post(self, request: Request) -> Response:
        """Change the policy, and return it."""
        body = read_body(request, PolicyBody)
        operations.even_by(body["even_by"], actor=actor_of(request), reason=body["reason"])
        return Response(policy_document())
