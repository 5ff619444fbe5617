"""Roll-outs of artifacts."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling import operations
from scheduling.api.base import ApiView, TableView, TrueOrFalse, actor_of
from scheduling.api.openapi import described, described_table
from scheduling.api.request_serializers import ReasonBody, read_body
from scheduling.models import RollOutItem, RollOutState
from scheduling.models.roll_out import OPEN_ROLL_OUTS
from scheduling.observe.roll_outs import read_roll_out, roll_outs
from scheduling.operations import NewRollOut
from scheduling.operations.registry import roll_out_actions
from scheduling.operations.registry.operation import Operation
from scheduling.operations.roll_outs import MAX_AT_A_TIME, MAX_CANARY_S, MAX_PORTFOLIOS
from scheduling.presentation.fields import TextField, WholeNumberField
from scheduling.presentation.serializers.roll_outs import RollOutDocument, RollOutLineDocument


class RollOutBody(ReasonBody):
    """`artifact`: its hash, or the beginning of it.

    `portfolios`: names; by default all that run another version of the artifact, with `strategy`
    only those of them that run this strategy. `canary`: by default one that runs.
    `canary_seconds`: the canary counts as proven once it has run so long and committed an event; by
    default once its revision is good.
    """

    artifact = TextField(max_length=64)
    portfolios = serializers.ListField(
        child=TextField(max_length=80),
        required=False,
        allow_null=True,
        default=None,
        min_length=1,
        max_length=MAX_PORTFOLIOS,
    )
    strategy = TextField(max_length=80, required=False, allow_blank=True, default="")
    at_a_time = WholeNumberField(min_value=1, max_value=MAX_AT_A_TIME, required=False, default=1)
    canary = TextField(max_length=80, required=False, allow_blank=True, default="")
    canary_seconds = serializers.FloatField(
        min_value=0, max_value=MAX_CANARY_S, required=False, allow_null=True, default=None
    )


class RollOutFilters(django_filters.FilterSet):
    """Filters of roll-outs. `active=true` are those that have not ended."""

    state = django_filters.ChoiceFilter(choices=RollOutState.choices)
    artifact = django_filters.CharFilter("artifact__sha256", "startswith")
    portfolio = django_filters.CharFilter(method="of_portfolio")
    active = TrueOrFalse(method="under_way")

    def of_portfolio(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        """Return the roll-outs that a portfolio of this name is part of."""
        named = RollOutItem.objects.filter(portfolio__name=value)
        return rows.filter(pk__in=named.values("roll_out"))

    def under_way(self, rows: QuerySet[Any], name: str, value: bool) -> QuerySet[Any]:
        """Return the roll-outs that have not ended, or for False those that have."""
        wanted = {"state__in": OPEN_ROLL_OUTS}
        return rows.filter(**wanted) if value else rows.exclude(**wanted)


@described_table("Roll-outs, newest first")
class RollOutList(TableView):
    """Roll-outs, newest first."""

    document = RollOutLineDocument
    filters = RollOutFilters

    def rows(self) -> QuerySet[Any]:
        return roll_outs()

    @described(
        RollOutDocument,
        status=201,
        body=RollOutBody,
        performs=roll_out_actions.ROLL_OUT,
        of="an artifact",
    )
    def post(self, request: Request) -> Response:
        """Begin a roll-out; 409 `roll_out_in_progress` with the other's number until it ends."""
        body = read_body(request, RollOutBody)
        reason = body.pop("reason")
        made = operations.roll_out(NewRollOut(**body), actor=actor_of(request), reason=reason)
        return Response(RollOutDocument(made).data, status=201)


class RollOutDetail(ApiView):
    """One roll-out."""

    @described(RollOutDocument, summary="A roll-out and how far it is")
    def get(self, request: Request, pk: int) -> Response:
        """Return the roll-out with its portfolios."""
        return Response(RollOutDocument(read_roll_out(pk)).data)


def roll_out_action(operation: Operation) -> type[ApiView]:
    """Return the view that performs an operation on a roll-out and returns the roll-out."""

    class RollOutAction(ApiView):
        @described(RollOutDocument, status=202, body=ReasonBody, performs=operation)
        def post(self, request: Request, pk: int) -> Response:
            given = read_body(request, ReasonBody)
            changed = operation.call(pk, actor=actor_of(request), **given)
            return Response(RollOutDocument(changed).data, status=202)

    return RollOutAction


StopRollOut = roll_out_action(roll_out_actions.STOP_ROLL_OUT)
ReturnRollOut = roll_out_action(roll_out_actions.RETURN_ROLL_OUT)
