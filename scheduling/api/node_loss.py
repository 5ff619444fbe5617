"""Could the fleet absorb the loss of a node? For each, as the watcher reckoned last."""

from __future__ import annotations

from typing import Any

from django.utils.translation import get_language
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.base import ApiView, refuse_unknown_parameters
from scheduling.api.openapi import described
from scheduling.decide.reasons import reason_document
from scheduling.decide.types import Reason
from scheduling.models import NodeStatus, Resilience
from scheduling.presentation.plan_serializers import ReasonDocument

_Anything = serializers.Serializer[Any]


class NoPlaceDocument(ReasonDocument):
    """Why these portfolios would have no place, or would have to wait for one."""

    portfolios = serializers.ListField(child=serializers.CharField())


class LossDocument(_Anything):
    """What the loss of one node would come to."""

    node = serializers.CharField()
    as_of = serializers.DateTimeField()
    absorbed = serializers.BooleanField()
    portfolios = serializers.IntegerField(help_text="That it runs.")
    fit = serializers.IntegerField(help_text="Of them, those that would have a place at once.")
    no_place = serializers.IntegerField()
    wait = serializers.IntegerField()
    suspects_counted = serializers.ListField(child=serializers.CharField())
    reasons = NoPlaceDocument(many=True)


class ResilienceDocument(_Anything):
    """Whether the loss of any one node would be absorbed. The oldest answer is of `as_of`."""

    as_of = serializers.DateTimeField(allow_null=True)
    absorbed = serializers.IntegerField(help_text="Nodes whose loss would be absorbed.")
    no_place = serializers.IntegerField(help_text="Over all nodes, each lost alone.")
    nodes = LossDocument(many=True)


class ScheduleResilience(ApiView):
    """What the loss of each node would come to."""

    @described(ResilienceDocument, summary="Could each node be lost?")
    def get(self, request: Request) -> Response:
        """Answer what the watcher keeps. `schedule/plan/?lose=NODE` reckons it anew."""
        refuse_unknown_parameters(request, ())
        return Response(resilience_document())


def resilience_document() -> dict[str, Any]:
    """Return the stored answers, by name of node. One statement."""
    alive = Resilience.objects.filter(node__status=NodeStatus.ALIVE).select_related("node")
    losses = [_loss(row) for row in alive.order_by("node__name")]
    document = {
        "as_of": min((loss["as_of"] for loss in losses), default=None),
        "absorbed": sum(loss["absorbed"] for loss in losses),
        "no_place": sum(loss["no_place"] for loss in losses),
        "nodes": losses,
    }
    return dict(ResilienceDocument(document).data)


def _loss(row: Resilience) -> dict[str, Any]:
    return {
        "node": row.node.name,
        "as_of": row.as_of,
        "absorbed": not (row.homeless or row.waiting),
        "portfolios": row.runs,
        "fit": row.fit,
        "no_place": row.homeless,
        "wait": row.waiting,
        "suspects_counted": row.suspects,
        "reasons": [
            {
                **reason_document(Reason(one["code"], one["params"]), get_language()),
                "portfolios": one["portfolios"],
            }
            for one in row.reasons
        ],
    }
