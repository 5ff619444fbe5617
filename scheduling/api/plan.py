"""What the balancer would do: as things are, or as a question has them. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import get_language
from rest_framework.request import Request
from rest_framework.response import Response

from scheduling.api.base import ApiView, refuse_unknown_parameters
from scheduling.api.openapi import described, query
from scheduling.decide.planner.targets import NotInSnapshot
from scheduling.decide.reasons import as_data, reason_document
from scheduling.decide.types import Move, Pending, Placement, PortfolioView
from scheduling.decide.what_if.answer import Answer, answer
from scheduling.decide.what_if.hypothetical import InvalidScenario, Scenario, added_nodes
from scheduling.decide.what_if.wording import notes, outage_budget, remedy_sentence, summary
from scheduling.errors import Invalid, Refused
from scheduling.observe.shared_snapshot import shared_snapshot
from scheduling.presentation.plan_serializers import PlanDocument
from scheduling.timing import Timing, timing

ASKED = ("lose", "drain", "add")


class SchedulePlan(ApiView):
    """What the balancer would do now."""

    @described(
        PlanDocument,
        parameters=[
            query("lose", str, "What if this node died? Several with commas, or repeated."),
            query("drain", str, "What if this node were drained? Several as above."),
            query(
                "add",
                str,
                "What if there were one node more? CAPACITY or CAPACITY:label=value,label=value; "
                "repeated for several.",
            ),
        ],
        summary="The plan, as a dry run",
    )
    def get(self, request: Request) -> Response:
        """Answer the plan, the loads it leads to and what it comes to; nothing is changed."""
        refuse_unknown_parameters(request, ASKED)
        asked = [request.query_params.getlist(name) for name in ASKED]
        return Response(dry_run(question_of(*asked)))


def question_of(lose: Iterable[str], drain: Iterable[str], add: Iterable[str]) -> Scenario:
    """Return the question of these texts, or raise Invalid that says what was wanted."""
    try:
        return Scenario.of(lose, drain, add)
    except InvalidScenario as bad:
        error = {"field": bad.field, "code": "invalid", "message": bad.message}
        raise Invalid([error]) from None


def dry_run(question: Scenario) -> dict[str, Any]:
    """Return the plan's document, as if things were as `question` has them.

    Raise Refused with `not_found` for a node that does not exist, SnapshotUnavailable if the fleet
    cannot be read.
    """
    times = timing()
    with shared_snapshot() as observed:
        try:
            found = answer(
                observed.snapshot, question, observed.stock, times.lease_policy.storm_fraction
            )
        except NotInSnapshot as unknown:
            raise Refused("not_found", str(unknown), status=404) from None
        return plan_document(found, times)


def plan_document(found: Answer, times: Timing) -> dict[str, Any]:
    """Return an answer as the command, the API and the page show it."""
    plan, question = found.plan, found.scenario
    return {
        "taken_at": datetime.fromtimestamp(found.snapshot.taken_at, UTC)
        .isoformat()
        .replace("+00:00", "Z"),
        "frozen": found.snapshot.frozen,
        "lose": list(question.lose),
        "drain": list(question.drain),
        "add": [
            {"node": node.name, "capacity": node.capacity, "labels": dict(node.labels)}
            for node in added_nodes(found.hypothetical)
        ],
        "scope": "whole_way" if found.is_complete else "next_pass",
        "verdict": _verdict(found, times),
        "place": [_placement(placement) for placement in plan.place],
        "move": [_move(move) for move in plan.move],
        "pending": [pending_document(pending) for pending in plan.pending],
        "stuck": [pending_document(pending) for pending in plan.stuck],
        "help": [
            {
                **as_data(one.reason),
                "reason": remedy_sentence(one.reason),
                "no_place": one.no_place,
            }
            for one in found.remedies
        ],
        "load": [
            {
                "node": load.node.name,
                "status": load.node.status,
                "cordoned": load.node.cordoned,
                "draining": load.node.draining,
                "capacity": load.node.capacity,
                "before": load.before,
                "after": load.after,
            }
            for load in found.loads
        ],
    }


def _verdict(found: Answer, times: Timing) -> dict[str, Any]:
    budget = outage_budget(found, times.lease_ttl_s, times.socket_grace_s)
    said = summary(found)
    return {
        "sentence": "".join(words.text for words in said),
        "words": [words._asdict() for words in said],
        "notes": notes(found, times.lease_ttl_s),
        "place": len(found.plan.place),
        "move": len(found.plan.move),
        "no_place": len(found.unplaced.no_place),
        "wait": len(found.unplaced.waiting),
        "stay": len(found.stay),
        "pending_already": found.already_pending,
        "suspects_counted": list(found.suspects),
        "storm": found.storm,
        "without_owner": None
        if budget is None
        else {"portfolios": found.failovers, **asdict(budget)},
    }


def _placement(placement: Placement) -> dict[str, Any]:
    return {
        **_who(placement.portfolio),
        "target_node": placement.target.name,
        **reason_document(placement.reason, get_language()),
    }


def _move(move: Move) -> dict[str, Any]:
    return {
        **_who(move.portfolio),
        "source_node": move.source.name if move.source else None,
        "target_node": move.target.name,
        "cause": move.cause,
        **reason_document(move.reason, get_language()),
    }


def pending_document(pending: Pending) -> dict[str, Any]:
    """Return what cannot have what it should have, and why."""
    return {**_who(pending.portfolio), **reason_document(pending.reason, get_language())}


def _who(portfolio: PortfolioView) -> dict[str, Any]:
    return {
        "portfolio": portfolio.name,
        "priority": portfolio.priority,
        "weight": portfolio.weight,
    }
