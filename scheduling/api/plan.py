"""The plan as a dry run, for the fleet as it is or for a what-if scenario."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.base import ApiView
from scheduling.api.openapi import described, query
from scheduling.presentation.plan import SCENARIO_PARAMETERS, dry_run, scenario_of
from scheduling.presentation.serializers.plans import PlanDocument


class SchedulePlan(ApiView):
    """The plan of the next pass, or the answer to a what-if scenario."""

    @described(
        PlanDocument,
        parameters=[
            query("lose", str, "Assume that this node is lost. Several with commas, or repeated."),
            query("drain", str, "Assume that this node is drained. Several as above."),
            query(
                "add",
                str,
                "Assume one more node: CAPACITY or CAPACITY:label=value,label=value; "
                "repeated for several.",
            ),
        ],
        summary="The plan, as a dry run",
    )
    def get(self, request: Request) -> Response:
        """Return the plan, its summary and the resulting loads. Change nothing."""
        lists = [request.query_params.getlist(name) for name in SCENARIO_PARAMETERS]
        return Response(dry_run(scenario_of(*lists)))
