"""Possible targets of a portfolio, and actions of operators on the whole fleet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.utils.translation import get_language
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from scheduling import operations
from scheduling.api.base import ApiView, actor_of
from scheduling.api.openapi import described, query
from scheduling.api.request_serializers import (
    FreezeBody,
    MigrateSeveralBody,
    NoBody,
    ReasonBody,
    ScheduleMigrateBody,
    read_body,
)
from scheduling.decide.planner.targets import targets
from scheduling.errors import Invalid, NotFound
from scheduling.models import Handoff, HandoffKind, HandoffState
from scheduling.observe.shared_snapshot import shared_snapshot
from scheduling.operations.registry import fleet_actions, portfolio_actions
from scheduling.operations.registry.operation import Operation
from scheduling.presentation.documents import (
    freeze_document,
    handoff_document,
    moved_document,
    storm_document,
)
from scheduling.presentation.fields import StrictSerializer
from scheduling.presentation.plan import balance_document
from scheduling.presentation.serializers.fleet import FreezeDocument, StormDocument
from scheduling.presentation.serializers.history import HandoffDocument, MovedDocument
from scheduling.presentation.serializers.nodes import TargetsDocument
from scheduling.presentation.serializers.plans import RebalancedDocument

#: Number of the newest moves from which the expected pause is computed.
PAUSES = 50


class ScheduleTargets(ApiView):
    """The nodes that could run a portfolio."""

    @described(
        TargetsDocument,
        parameters=[query("portfolio", str, "Name of the portfolio.", required=True)],
        summary="Whether each node could run a portfolio",
    )
    def get(self, request: Request) -> Response:
        """Return for every node whether it could run the portfolio, or why it could not."""
        name = request.query_params.get("portfolio", "")
        if not name:
            message = "is required: ?portfolio=NAME"
            raise Invalid([{"field": "portfolio", "code": "required", "message": message}])
        with shared_snapshot() as observed:
            if all(portfolio.name != name for portfolio in observed.snapshot.portfolios):
                raise NotFound("portfolio", name)
            answers = targets(observed.snapshot, name, get_language())
            results = [asdict(answer) for answer in answers]
        return Response({"portfolio": name, "pause_ms": expected_pause(), "results": results})


def expected_pause() -> dict[str, float | None]:
    """Return p50 and p99, in ms, of the pauses of the newest PAUSES successful moves.

    They are None if there was no move yet. One statement.
    """
    moves = Handoff.objects.filter(
        state=HandoffState.DONE,
        kind__in=(HandoffKind.MIGRATE, HandoffKind.RELOAD),
        pause_ms__isnull=False,
    )
    newest = moves.order_by("-id").values_list("pause_ms", flat=True)[:PAUSES]
    pauses = sorted(pause for pause in newest if pause is not None)
    if not pauses:
        return {"p50": None, "p99": None}
    return {
        "p50": pauses[(len(pauses) - 1) // 2],
        "p99": pauses[-1],  # the nearest-rank percentile of fewer than 100 values is the largest
    }


class ScheduleRebalance(ApiView):
    """Run a balance pass now."""

    @described(RebalancedDocument, status=202, body=NoBody, performs=fleet_actions.REBALANCE)
    def post(self, request: Request) -> Response:
        """Run a pass, and return what it began."""
        read_body(request, NoBody)
        return Response(balance_document(operations.rebalance(actor=actor_of(request))), status=202)


class ScheduleMigrate(ApiView):
    """Move the portfolio that the body names."""

    @described(
        HandoffDocument,
        status=202,
        body=ScheduleMigrateBody,
        performs=portfolio_actions.MIGRATE,
        of="a portfolio",
    )
    def post(self, request: Request) -> Response:
        """Begin the move, and return its handoff."""
        body = read_body(request, ScheduleMigrateBody)
        handoff = operations.migrate(
            body["portfolio"], body["target"], actor=actor_of(request), reason=body["reason"]
        )
        return Response(handoff_document(handoff), status=202)


class ScheduleMigrateSeveral(ApiView):
    """Move the portfolios that the body names."""

    @described(
        MovedDocument,
        status=202,
        body=MigrateSeveralBody,
        performs=portfolio_actions.MIGRATE_SEVERAL,
    )
    def post(self, request: Request) -> Response:
        """Begin the moves, and return for each portfolio its handoff, or why it was not moved."""
        body = read_body(request, MigrateSeveralBody)
        outcomes = operations.migrate_several(
            body["portfolios"], body["target"], actor=actor_of(request), reason=body["reason"]
        )
        return Response(moved_document(outcomes), status=202)


def fleet_action(
    operation: Operation,
    body: type[StrictSerializer],
    document: type[Serializer[Any]],
    state: Callable[[], dict[str, Any]],
) -> type[ApiView]:
    """Return the view that performs an operation on the fleet and returns `state()` after it."""

    class FleetAction(ApiView):
        @described(document, body=body, performs=operation)
        def post(self, request: Request) -> Response:
            operation.call(actor=actor_of(request), **read_body(request, body))
            return Response(state())

    return FleetAction


#: (type of the answered document, function that returns its data), for `fleet_action`.
FREEZE_ANSWER = (FreezeDocument, freeze_document)
STORM_ANSWER = (StormDocument, storm_document)
ScheduleFreeze = fleet_action(fleet_actions.FREEZE, FreezeBody, *FREEZE_ANSWER)
ScheduleUnfreeze = fleet_action(fleet_actions.UNFREEZE, NoBody, *FREEZE_ANSWER)
StormRelease = fleet_action(fleet_actions.RELEASE_STORM, ReasonBody, *STORM_ANSWER)
StormHold = fleet_action(fleet_actions.HOLD_STORM, ReasonBody, *STORM_ANSWER)
