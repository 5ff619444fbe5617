"""Move several portfolios at once: where they could go, then what became of each."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from scheduling import operations
from scheduling.dashboard.actions import dialog_lines
from scheduling.dashboard.context import page_context, render_problem
from scheduling.dashboard.decorators import operator_required
from scheduling.dashboard.views.actions import find_portfolio, render_form
from scheduling.decide.planner.group_targets import group_targets
from scheduling.decide.planner.targets import NotInSnapshot
from scheduling.errors import NotFound, Refused
from scheduling.observe.snapshot import observe
from scheduling.operations.moves import MAX_MOVED_AT_ONCE
from scheduling.operations.registry.portfolio_actions import MIGRATE_SEVERAL
from scheduling.presentation.group_moves import ANY, GroupTargetLines, group_target_lines
from scheduling.timing import timing

FORM = "dashboard/parts/migrate_several_form.html"
RESULT = "dashboard/parts/migrate_several_result.html"


@operator_required
def migrate_several(request: HttpRequest) -> HttpResponse:
    """Show where `?portfolio=a&portfolio=b` could go; on POST move them."""
    given = request.POST if request.method == "POST" else request.GET
    names = list(dict.fromkeys(given.getlist("portfolio")))
    context = page_context(request, "board")
    if not 1 <= len(names) <= MAX_MOVED_AT_ONCE:
        title = too_many_title() if names else _("No portfolios to move")
        return render_problem(request, 400, title, wrong_number_sentence(len(names)))
    try:
        answers = group_targets(observe(timing()).snapshot, names)
    except NotInSnapshot as missing:
        raise NotFound("portfolio", missing.name) from None
    lines = group_target_lines(answers, len(names))
    target = given.get("target_node") or given.get("to") or ""
    chosen = next((line for line in lines if line.node == target), None)
    if chosen is None and request.method != "POST":
        chosen = _best_answer(lines)
    context |= {
        "title": ngettext(
            "Migrate %(number)s portfolio", "Migrate %(number)s portfolios", len(names)
        )
        % {"number": len(names)},
        "names": names,
        "chosen_portfolios": [find_portfolio(context["fleet"], name) for name in names],
        "answers": lines,
        "any": ANY,
        "chosen": chosen.node if chosen else target,
        "lines": dialog_lines(MIGRATE_SEVERAL, None, context["fleet"]),
        "command": f"migrate_portfolio {' '.join(names)}",
        "reason": given.get("reason", "").strip(),
        "any_feasible": any(line.can for line in lines),
        # The cards were dropped there before the browser knew whether one can go.
        "refused": _none_can_move(chosen) if chosen and not chosen.can else "",
    }
    if request.method != "POST":
        return render_form(request, FORM, context)
    try:
        if not target:
            sentence = _("Choose the node that the portfolios should run on, or the balancer.")
            raise Refused("invalid", sentence, status=400)
        outcomes = operations.migrate_several(
            names,
            None if target == ANY else target,
            actor=request.user.get_username(),
            reason=context["reason"],
        )
    except Refused as refused:
        context["refused"] = refused.message
        return render_form(request, FORM, context, refused.status)
    moving, total = sum(outcome.handoff is not None for outcome in outcomes), len(outcomes)
    title = ngettext(
        "%(moving)s of %(of)s portfolio is moving",
        "%(moving)s of %(of)s portfolios are moving",
        total,
    )
    context |= {
        "outcomes": outcomes,
        "title": title % {"moving": moving, "of": total},
        "moving": moving,
    }
    return render_form(request, RESULT, context, 200 if moving else 409)


def too_many_title() -> str:
    """Return the title of the problem if more than MAX_MOVED_AT_ONCE portfolios are chosen."""
    return _("Too many portfolios to move")


def wrong_number_sentence(number: int | str) -> str:
    """Return the error for a choice of `number` portfolios; a script fills in a placeholder."""
    text = _("Choose 1 to %(most)s portfolios on the board; these are %(number)s.")
    return text % {"most": MAX_MOVED_AT_ONCE, "number": number}


def _none_can_move(chosen: GroupTargetLines) -> str:
    """Return why the chosen target takes none of the portfolios."""
    # Each reason has commas of its own, between the portfolios that it is about.
    return f"{_('; ').join([chosen.verdict, *chosen.reasons])}{_('.')}"


def _best_answer(lines: list[GroupTargetLines]) -> GroupTargetLines | None:
    """Return the answer that takes the most portfolios, or None if none takes any.

    If several take equally many: one without a risk, then the first line, which is the balancer's.
    """
    able = [line for line in lines if line.can]
    return max(able, key=lambda line: (line.can, not line.risks), default=None)
