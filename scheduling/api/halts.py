"""The kill switch: stop all portfolios, list the halts, and undo one."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling import operations
from scheduling.api.base import ApiView, actor_of
from scheduling.api.openapi import HIGHEST_INT, described
from scheduling.api.request_serializers import ReasonBody, read_body
from scheduling.observe.halts import read_halt, read_halts
from scheduling.operations.registry import fleet_actions
from scheduling.presentation.fields import WholeNumberField
from scheduling.presentation.serializers.fields import Document
from scheduling.presentation.serializers.fleet import HaltedDocument


class HaltBody(ReasonBody):
    """`expect_running`: the number of running portfolios that the operator saw; null: any."""

    expect_running = WholeNumberField(min_value=0, required=False, allow_null=True, default=None)


class UndoHaltBody(ReasonBody):
    """`halt`: by default the newest halt that still keeps a portfolio stopped."""

    halt = WholeNumberField(
        min_value=1, max_value=HIGHEST_INT, required=False, allow_null=True, default=None
    )


class HaltLineDocument(Document):
    """A halt. It stopped `stopped` portfolios, `running` of them with an owner, and still keeps
    `waiting` of them stopped.
    """

    halt = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField()
    reason = serializers.CharField()
    running = serializers.IntegerField()
    stopped = serializers.IntegerField()
    waiting = serializers.IntegerField()
    undone_at = serializers.DateTimeField(allow_null=True)
    undone_by = serializers.CharField()


class HaltsDocument(Document):
    """The newest halts, newest first."""

    results = HaltLineDocument(many=True)


class UndoneDocument(Document):
    """The portfolios that a halt had stopped and that are started again."""

    halt = serializers.IntegerField()
    started = serializers.ListField(child=serializers.CharField())


class HaltAll(ApiView):
    """Stop every portfolio, or list the newest halts."""

    @described(HaltedDocument, body=HaltBody, performs=fleet_actions.HALT_ALL)
    def post(self, request: Request) -> Response:
        """Stop every portfolio; 409 `count_differs` with both numbers."""
        body = read_body(request, HaltBody)
        halted = operations.halt_all(
            actor=actor_of(request), reason=body["reason"], expect_running=body["expect_running"]
        )
        return Response(HaltedDocument(halted).data)

    @described(HaltsDocument, summary="The newest halts", operation_id="halts_list")
    def get(self, request: Request) -> Response:
        """Return the newest halts, twenty at most."""
        return Response(HaltsDocument({"results": read_halts()}).data)


class HaltDetail(ApiView):
    """One halt."""

    @described(HaltedDocument, summary="A halt and what it stopped")
    def get(self, request: Request, pk: int) -> Response:
        """Return the document that the request for the halt was answered with."""
        _, halted = read_halt(pk)
        return Response(HaltedDocument(halted).data)


class UndoHalt(ApiView):
    """Start what a halt stopped."""

    @described(UndoneDocument, status=202, body=UndoHaltBody, performs=fleet_actions.UNDO_HALT)
    def post(self, request: Request) -> Response:
        """Start the portfolios that the halt stopped, and return the halt and their names."""
        body = read_body(request, UndoHaltBody)
        halt, started = operations.undo_halt(
            body["halt"], actor=actor_of(request), reason=body["reason"]
        )
        return Response({"halt": halt, "started": started}, status=202)
