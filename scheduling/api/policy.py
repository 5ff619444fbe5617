"""What operators chose of how the balancer weighs things."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling import operations
from scheduling.api.base import ApiView, actor_of, refuse_unknown_parameters
from scheduling.api.openapi import described
from scheduling.api.request_serializers import ReasonBody, read_body
from scheduling.models.fleet_control import EvenBy
from scheduling.presentation.documents import policy_document
from scheduling.presentation.serializers import PolicyDocument


class PolicyBody(ReasonBody):
    """`even_by`: what a rebalance evens out; what fits is decided by weight always."""

    even_by = serializers.ChoiceField(EvenBy.choices)


class SchedulePolicy(ApiView):
    """How the balancer weighs things."""

    @described(PolicyDocument, summary="The policy in force")
    def get(self, request: Request) -> Response:
        """Answer the policy in force."""
        refuse_unknown_parameters(request, ())
        return Response(policy_document())

    @described(PolicyDocument, body=PolicyBody, summary="Choose what a rebalance evens out")
    def post(self, request: Request) -> Response:
        """Answer the policy that is in force from the next pass on."""
        body = read_body(request, PolicyBody)
        operations.even_by(body["even_by"], actor=actor_of(request), reason=body["reason"])
        return Response(policy_document())
