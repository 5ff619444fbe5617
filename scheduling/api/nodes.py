"""Nodes, and what operators do with them."""

from __future__ import annotations

from typing import get_args

from rest_framework.request import Request
from rest_framework.response import Response

from scheduling import operations
from scheduling.api.base import ApiView, actor_of, context_for, refuse_unknown_parameters
from scheduling.api.openapi import described, described_list, query
from scheduling.api.pagination import page_of_lines
from scheduling.api.request_serializers import NoBody, ReasonBody, read_body
from scheduling.decide import types
from scheduling.errors import Invalid
from scheduling.observe.fleet_view import read_fleet_view
from scheduling.presentation.documents import node_document, node_line
from scheduling.presentation.serializers import NodeDocument


class NodeList(ApiView):
    """All nodes that were ever given a name."""

    @described_list(NodeDocument, [query("status"), query("schedulable", bool)], "Nodes, by name")
    def get(self, request: Request) -> Response:
        """Answer one page of the one consistent read that the dashboard shows too."""
        refuse_unknown_parameters(request, ("status", "schedulable"))
        lines = read_fleet_view().nodes
        status = _choice(request, "status", get_args(types.NodeStatus))
        if status is not None:
            lines = [line for line in lines if line.status == status]
        schedulable = _choice(request, "schedulable", ("true", "false"))
        if schedulable is not None:
            lines = [line for line in lines if line.schedulable == (schedulable == "true")]
        page, following, preceding = page_of_lines(request, lines, lambda line: line.name)
        results = NodeDocument(page, many=True, context=context_for(request)).data
        return Response({"next": following, "previous": preceding, "results": results})


def _choice(request: Request, name: str, choices: tuple[str, ...]) -> str | None:
    """Return the query parameter `name`, or None if absent. Raise Invalid for another value."""
    value = request.query_params.get(name)
    if value is not None and value not in choices:
        message = f"is none of {', '.join(choices)}"
        raise Invalid([{"field": name, "code": "invalid_choice", "message": message}])
    return value


class NodeDetail(ApiView):
    """One node."""

    @described(NodeDocument, summary="A node and how it is")
    def get(self, request: Request, name: str) -> Response:
        """Answer its document."""
        return Response(NodeDocument(node_line(name), context=context_for(request)).data)

    @described(None, status=204, body=ReasonBody, summary="Forget a node that is gone for good")
    def delete(self, request: Request, name: str) -> Response:
        """Answer nothing; 409 `lease_valid` while it may act, `node_owns` while it owns."""
        reason = read_body(request, ReasonBody)["reason"]
        operations.forget_node(name, actor=actor_of(request), reason=reason)
        return Response(status=204)


class DrainNode(ApiView):
    """Place nothing new on it and hand off what it has."""

    @described(NodeDocument, body=ReasonBody, summary="Drain a node")
    def post(self, request: Request, name: str) -> Response:
        """Answer the node; its portfolios leave one after the other."""
        reason = read_body(request, ReasonBody)["reason"]
        operations.drain(name, actor=actor_of(request), reason=reason)
        return Response(node_document(name))


class UndrainNode(ApiView):
    """End a drain."""

    @described(NodeDocument, body=NoBody, summary="End the drain of a node")
    def post(self, request: Request, name: str) -> Response:
        """Answer the node."""
        read_body(request, NoBody)
        operations.undrain(name, actor=actor_of(request))
        return Response(node_document(name))


class CordonNode(ApiView):
    """Place nothing new on it; what runs there stays."""

    @described(NodeDocument, body=ReasonBody, summary="Cordon a node")
    def post(self, request: Request, name: str) -> Response:
        """Answer the node."""
        reason = read_body(request, ReasonBody)["reason"]
        operations.cordon(name, actor=actor_of(request), reason=reason)
        return Response(node_document(name))


class UncordonNode(ApiView):
    """Lift a cordon."""

    @described(NodeDocument, body=NoBody, summary="Lift the cordon of a node")
    def post(self, request: Request, name: str) -> Response:
        """Answer the node."""
        read_body(request, NoBody)
        operations.uncordon(name, actor=actor_of(request))
        return Response(node_document(name))
