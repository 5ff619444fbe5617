"""Plans and what-if answers as documents. Computing one changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import get_language

from scheduling.decide.planner.targets import NotInSnapshot
from scheduling.decide.reasons import as_data, reason_document
from scheduling.decide.types import Move, Pending, Placement, PortfolioView
from scheduling.decide.what_if.answer import Answer, answer
from scheduling.decide.what_if.hypothetical import InvalidScenario, Scenario, added_nodes
from scheduling.decide.what_if.wording import notes, outage_budget, remedy_sentence, summary
from scheduling.errors import Invalid, NotFound
from scheduling.observe.shared_snapshot import shared_snapshot
from scheduling.passes.balance import BalanceOutcome
from scheduling.timing import Timing, timing

#: Parameters of a what-if scenario, in the order of `Scenario.of`.
SCENARIO_PARAMETERS = ("lose", "drain", "add")


def scenario_of(lose: Iterable[str], drain: Iterable[str], add: Iterable[str]) -> Scenario:
    """Parse a what-if scenario. Raise Invalid, which names what was expected."""
    try:
        return Scenario.of(lose, drain, add)
    except InvalidScenario as error:
        detail = {"field": error.field, "code": "invalid", "message": error.message}
        raise Invalid([detail]) from None


def dry_run(scenario: Scenario) -> dict[str, Any]:
    """Return what the next pass would do if the fleet were as `scenario` assumes it.

    Raise Refused with `not_found` for a node that does not exist, SnapshotUnavailable if the fleet
    cannot be read.
    """
    times = timing()
    with shared_snapshot() as observed:
        try:
            found = answer(
                observed.snapshot, scenario, observed.fleet_index, times.lease_policy.storm_fraction
            )
        except NotInSnapshot as unknown:
            raise NotFound(unknown.what, unknown.name) from None
        return plan_document(found, times)


def plan_document(found: Answer, times: Timing) -> dict[str, Any]:
    """Return a what-if answer as the command, the API and the page show it."""
    plan, scenario = found.plan, found.scenario
    return {
        "taken_at": datetime.fromtimestamp(found.snapshot.taken_at, UTC)
        .isoformat()
        .replace("+00:00", "Z"),
        "frozen": found.snapshot.frozen,
        "lose": list(scenario.lose),
        "drain": list(scenario.drain),
        "add": [
            {"node": node.name, "capacity": node.capacity, "labels": dict(node.labels)}
            for node in added_nodes(found.hypothetical)
        ],
        "scope": "whole_way" if found.is_complete else "next_pass",
        "verdict": _verdict_document(found, times),
        "place": [placement_document(placement) for placement in plan.place],
        "move": [move_document(move) for move in plan.move],
        "pending": [pending_document(pending) for pending in plan.pending],
        "stuck": [pending_document(pending) for pending in plan.stuck],
        "help": [
            {
                **as_data(one.reason),
                "reason": remedy_sentence(one.reason, get_language()),
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


def _verdict_document(found: Answer, times: Timing) -> dict[str, Any]:
    budget = outage_budget(found, times.lease_ttl_s, times.socket_grace_s)
    spans = summary(found, get_language())
    return {
        "sentence": "".join(span.text for span in spans),
        "words": [span._asdict() for span in spans],
        "notes": notes(found, times.lease_ttl_s, get_language()),
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


def placement_document(placement: Placement) -> dict[str, Any]:
    """Return a placement and its reason."""
    return {
        **_portfolio_document(placement.portfolio),
        "target_node": placement.target.name,
        **reason_document(placement.reason, get_language()),
    }


def move_document(move: Move) -> dict[str, Any]:
    """Return a move and its reason."""
    return {
        **_portfolio_document(move.portfolio),
        "source_node": move.source.name if move.source else None,
        "target_node": move.target.name,
        "cause": move.cause,
        **reason_document(move.reason, get_language()),
    }


def pending_document(pending: Pending) -> dict[str, Any]:
    """Return a portfolio that cannot be placed or moved as it should, and the reason."""
    return {
        **_portfolio_document(pending.portfolio),
        **reason_document(pending.reason, get_language()),
    }


def _portfolio_document(portfolio: PortfolioView) -> dict[str, Any]:
    return {"portfolio": portfolio.name, "priority": portfolio.priority, "weight": portfolio.weight}


def balance_document(outcome: BalanceOutcome) -> dict[str, Any]:
    """Return what a pass began, and what it could not do."""
    return {
        "requested": list(outcome.requested),
        "rejected": [asdict(rejected) for rejected in outcome.rejected],
        "pending": [pending_document(pending) for pending in outcome.plan.pending],
        "stuck": [pending_document(pending) for pending in outcome.plan.stuck],
    }
