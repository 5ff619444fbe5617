"""The node-loss forecast: for each node, as the watcher last computed it."""

from __future__ import annotations

from typing import Any

from django.utils.translation import get_language
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.base import ApiView
from scheduling.api.openapi import described
from scheduling.decide.reasons import reason_document
from scheduling.decide.types import Reason
from scheduling.models import NodeStatus, Resilience
from scheduling.presentation.serializers.fields import Document
from scheduling.presentation.serializers.plans import ReasonDocument


class NoPlaceDocument(ReasonDocument):
    """A reason why portfolios would have no place, or would have to wait for one."""

    portfolios = serializers.ListField(child=serializers.CharField())


class LossDocument(Document):
    """The result of the loss of one node. It relies on the suspect nodes in `suspects_counted`.

    `no_place` and `wait` count its portfolios that would find no place, or have to wait for one.
    """

    node = serializers.CharField()
    as_of = serializers.DateTimeField()
    absorbed = serializers.BooleanField()
    portfolios = serializers.IntegerField(help_text="Number of portfolios that the node runs.")
    fit = serializers.IntegerField(
        help_text="Number of the node's portfolios that would have another place at once."
    )
    no_place = serializers.IntegerField()
    wait = serializers.IntegerField()
    suspects_counted = serializers.ListField(child=serializers.CharField())
    reasons = NoPlaceDocument(many=True)


class ResilienceDocument(Document):
    """Whether the loss of any single node would be absorbed; `as_of`: the oldest forecast."""

    as_of = serializers.DateTimeField(allow_null=True)
    absorbed = serializers.IntegerField(help_text="Number of nodes whose loss would be absorbed.")
    no_place = serializers.IntegerField(
        help_text="Sum over all nodes of the portfolios without a place after the node's loss."
    )
    nodes = LossDocument(many=True)


class ScheduleResilience(ApiView):
    """The node-loss forecast."""

    @described(ResilienceDocument, summary="The node-loss forecast")
    def get(self, request: Request) -> Response:
        """Return the stored forecast; `schedule/plan/?lose=NODE` computes a new one."""
        return Response(resilience_document())


def resilience_document() -> dict[str, Any]:
    """Return the stored forecast, its nodes sorted by name. One statement."""
    alive = Resilience.objects.filter(node__status=NodeStatus.ALIVE).select_related("node")
    losses = [_loss_document(row) for row in alive.order_by("node__name")]
    document = {
        "as_of": min((loss["as_of"] for loss in losses), default=None),
        "absorbed": sum(loss["absorbed"] for loss in losses),
        "no_place": sum(loss["no_place"] for loss in losses),
        "nodes": losses,
    }
    return dict(ResilienceDocument(document).data)


def _loss_document(row: Resilience) -> dict[str, Any]:
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
                **reason_document(Reason(reason["code"], reason["params"]), get_language()),
                "portfolios": reason["portfolios"],
            }
            for reason in row.reasons
        ],
    }
