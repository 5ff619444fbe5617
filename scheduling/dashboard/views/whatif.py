"""What-if page: the plan for a hypothetical scenario, and whether each node could be lost."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from scheduling.dashboard import whatif
from scheduling.dashboard.context import page_context, render_page, render_problem
from scheduling.dashboard.decorators import viewer_required
from scheduling.decide.what_if.hypothetical import Scenario
from scheduling.errors import Refused
from scheduling.presentation.plan import SCENARIO_PARAMETERS, dry_run, scenario_of


@require_safe
@viewer_required
def what_if(request: HttpRequest) -> HttpResponse:
    """Show a dry run; `?lose=`, `?drain=` and `?add=` make the URL a permalink of the scenario."""
    try:
        scenario = scenario_of(*(request.GET.getlist(name) for name in SCENARIO_PARAMETERS))
        document = dry_run(scenario)
    except Refused as refused:
        errors = refused.extra.get("errors") or [{"message": refused.message}]
        return render_problem(request, refused.status, _("Invalid scenario"), errors[0]["message"])
    context = page_context(request, "what-if")
    fleet = context["fleet"]
    steps = [_step(step, document) for step in (*document["place"], *document["move"])]
    query = whatif.scenario_query(scenario)
    verdict = document["verdict"]
    context |= {
        "affected": len(steps) + verdict["no_place"] + verdict["wait"],
        "title": whatif.scenario_title(scenario),
        "scenario": scenario,
        "filters": {
            "lose": ", ".join(scenario.lose),
            "drain": ", ".join(scenario.drain),
            "add": list(map(str, scenario.add)) or [""],
        },
        "kind_choices": whatif.kind_choices(scenario),
        "node_choices": whatif.node_choices(scenario, fleet),
        "plan": document,
        "taken_at": parse_datetime(document["taken_at"]),
        "steps": steps[: whatif.MAX_ROWS],
        "steps_more": max(len(steps) - whatif.MAX_ROWS, 0),
        "steps_count": len(steps),
        "unplaced": [*document["pending"], *document["stuck"]][: whatif.MAX_ROWS],
        "unplaced_count": len(document["pending"]) + len(document["stuck"]),
        "remedies": [_remedy(remedy, scenario) for remedy in document["help"]],
        "bars": whatif.load_bars(document),
        "losses": whatif.loss_rows(scenario, fleet),
        "loss_summary": whatif.loss_summary(fleet),
        "query": query,
        "permalink": request.build_absolute_uri(query),
    }
    return render_page(request, "dashboard/whatif.html", context)


def _step(step: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return a placement or move as a row of the page, with a `limit_s` added.

    That is the longest time without an owner in a failover from a node that the scenario assumes
    lost; None for other steps.
    """
    longest = document["verdict"]["without_owner"]
    fails_over = step.get("cause") == "failover" and step["source_node"] in document["lose"]
    return {**step, "limit_s": longest["by_silence_s"] if longest and fails_over else None}


def _remedy(remedy: dict[str, Any], scenario: Scenario) -> dict[str, Any]:
    """Return the remedy with the `node` to reopen, or the `query` that adds the proposed node."""
    params = remedy["params"]
    query = ""
    if remedy["code"] == "more_room":
        query = whatif.scenario_query(scenario, add=(*map(str, scenario.add), params["add"]))
    return {**remedy, "node": params.get("node"), "query": query}
