"""What if: the plan that a question leads to, and whether each node could be lost."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from scheduling.dashboard import whatif
from scheduling.dashboard.context import page_context, problem, show
from scheduling.dashboard.decorators import for_readers
from scheduling.errors import Refused
from scheduling.presentation.plan import SCENARIO_PARAMETERS, dry_run, scenario_of


@require_safe
@for_readers
def what_if(request: HttpRequest) -> HttpResponse:
    """Show a dry run; `?lose=`, `?drain=` and `?add=` ask, so the address is the permalink."""
    try:
        question = scenario_of(*(request.GET.getlist(name) for name in SCENARIO_PARAMETERS))
        document = dry_run(question)
    except Refused as refused:
        return problem(request, refused.status, "This cannot be asked", refused.message)
    context = page_context(request, "what-if")
    board = context["board"]
    steps = [_step(step, document) for step in (*document["place"], *document["move"])]
    query = whatif.address(question)
    verdict = document["verdict"]
    context |= {
        "affected": len(steps) + verdict["no_place"] + verdict["wait"],
        "title": whatif.title(question),
        "question": question,
        "asked": {
            "lose": ", ".join(question.lose),
            "drain": ", ".join(question.drain),
            "add": list(map(str, question.add)) or [""],
        },
        "kinds": whatif.kinds(question),
        "choices": whatif.choices(question, board),
        "plan": document,
        "taken_at": parse_datetime(document["taken_at"]),
        "steps": steps[: whatif.MAX_ROWS],
        "steps_more": max(len(steps) - whatif.MAX_ROWS, 0),
        "steps_count": len(steps),
        "left": [*document["pending"], *document["stuck"]][: whatif.MAX_ROWS],
        "left_count": len(document["pending"]) + len(document["stuck"]),
        "helps": [_help(one, question) for one in document["help"]],
        "bars": whatif.bars(document),
        "losses": whatif.loss_rows(question, board),
        "loss_summary": whatif.loss_summary(board),
        "query": query,
        "permalink": request.build_absolute_uri(query),
    }
    return show(request, "dashboard/whatif.html", context)


def _step(step: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the moves: what is failed over has no owner for a while."""
    budget = document["verdict"]["without_owner"]
    failover = step.get("cause") == "failover" and step["source_node"] in document["lose"]
    return {**step, "limit_s": budget["by_silence_s"] if budget and failover else None}


def _help(one: dict[str, Any], question: Any) -> dict[str, Any]:
    """Return a help with where its act is: a dialog, or the same question with it."""
    params = one["params"]
    more = ""
    if one["code"] == "more_room":
        more = whatif.address(question, add=(*map(str, question.add), params["add"]))
    return {**one, "node": params.get("node"), "try": more}
