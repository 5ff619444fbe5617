"""Nodes, and the actions of operators on them."""

from __future__ import annotations

from operator import attrgetter
from typing import get_args

from rest_framework.request import Request
from rest_framework.response import Response

from scheduling import operations
from scheduling.api.base import ApiView, actor_of, read_choice, serializer_context
from scheduling.api.openapi import described, described_list, query
from scheduling.api.pagination import page_of_items
from scheduling.api.request_serializers import DrainBody, LabelsBody, NoBody, ReasonBody, read_body
from scheduling.decide import types
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.operations.registry import node_actions
from scheduling.operations.registry.operation import Operation
from scheduling.presentation.documents import node_document, node_view
from scheduling.presentation.drain_plan import drain_document
from scheduling.presentation.fields import StrictSerializer
from scheduling.presentation.serializers.nodes import NodeDocument
from scheduling.presentation.serializers.plans import DrainPlanDocument


class NodeList(ApiView):
    """All nodes."""

    @described_list(
        NodeDocument,
        [query("status", enum=get_args(types.NodeStatus)), query("schedulable", bool)],
        "Nodes, by name",
    )
    def get(self, request: Request) -> Response:
        """Return one page of the nodes that fit the filters, from one consistent read."""
        nodes = read_fleet_view().nodes
        status = read_choice(request, "status", get_args(types.NodeStatus))
        if status is not None:
            nodes = [node for node in nodes if node.status == status]
        schedulable = read_choice(request, "schedulable", ("true", "false"))
        if schedulable is not None:
            nodes = [node for node in nodes if node.schedulable == (schedulable == "true")]
        context = serializer_context(request)
        return page_of_items(request, nodes, attrgetter("name"), NodeDocument, context=context)


class NodeDetail(ApiView):
    """One node."""

    @described(NodeDocument, summary="A node and its state")
    def get(self, request: Request, name: str) -> Response:
        """Return the node."""
        return Response(NodeDocument(node_view(name), context=serializer_context(request)).data)

    @described(NodeDocument, body=LabelsBody, performs=node_actions.LABEL_NODE, of="a node")
    def patch(self, request: Request, name: str) -> Response:
        """Replace all labels if `labels` is given ({} removes them), and return the node."""
        given = read_body(request, LabelsBody)
        if "labels" in given:
            operations.label(name, given["labels"], actor=actor_of(request), reason=given["reason"])
        return Response(node_document(name))

    @described(
        None,
        status=204,
        body=ReasonBody,
        performs=node_actions.FORGET_NODE,
        of="a node that is gone for good",
    )
    def delete(self, request: Request, name: str) -> Response:
        """Forget the node; 409 `lease_valid` or `node_owns` while it may still act."""
        reason = read_body(request, ReasonBody)["reason"]
        operations.forget_node(name, actor=actor_of(request), reason=reason)
        return Response(status=204)


class NodeDrainPlan(ApiView):
    """What a drain of one node would do."""

    @described(DrainPlanDocument, summary="What a drain of a node would do; changes nothing")
    def get(self, request: Request, name: str) -> Response:
        """Return where a drain would move each portfolio, and how node-loss forecasts change."""
        return Response(drain_document(name))


def node_action(operation: Operation) -> type[ApiView]:
    """Return the view that performs an operation on the node of the path and returns the node."""
    body: type[StrictSerializer] = ReasonBody if operation.asks_reason else NoBody
    if operation is node_actions.DRAIN:
        body = DrainBody

    class NodeAction(ApiView):
        @described(NodeDocument, body=body, performs=operation, of="a node")
        def post(self, request: Request, name: str) -> Response:
            given = read_body(request, body)
            operation.call(name, actor=actor_of(request), **given)
            return Response(node_document(name))

    return NodeAction
