"""The page of one node: what it runs, its history, labels and tokens, and how it is started."""

from __future__ import annotations

import heapq
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from scheduling.dashboard.board.columns import display_status, lease_level
from scheduling.dashboard.context import page_context, render_page
from scheduling.dashboard.decorators import operator_required, viewer_required
from scheduling.dashboard.forms import LabelsForm, NodeTokenForm
from scheduling.dashboard.handoff_steps import kind_text, reason_text
from scheduling.dashboard.pagination import page_by_id
from scheduling.dashboard.views.actions import (
    FIELDS_FORM,
    find_node,
    perform_action,
    posted,
    render_form,
    submit_form,
    succeed,
)
from scheduling.decide.labels import labels_text
from scheduling.errors import NotFound, Refused
from scheduling.models import Event, Handoff, Node, NodeToken
from scheduling.observe.fleet_view.types import NodeView
from scheduling.operations.registry import access_actions, node_actions
from scheduling.operations.tokens import NewToken
from scheduling.presentation.documents import find_any_node
from scheduling.presentation.drain_plan import drain_document
from scheduling.presentation.node_command import first_start, node_command

#: What happened to a node, and what was done to it.
HISTORY = (
    *("node_registered", "node_alive", "node_lost", "node_leaving", "node_left"),
    *("node_draining", "node_undrained", "node_cordoned", "node_uncordoned", "node_labelled"),
    *("node_token_created", "node_token_revoked", "node_forgotten"),
)
HISTORY_ROWS = 20  #: events of the node on a page
HANDOFF_ROWS = 12  #: the newest from and to the node
PLAN_ROWS = 50  #: of each table of a drain's preview
TOKEN_ROWS = 50  #: the newest; the page says if there are more


@require_safe
@viewer_required
def node(request: HttpRequest, name: str) -> HttpResponse:
    """Show one node. A node that has a token and never registered has a page too."""
    context = page_context(request, "nodes")
    shown = find_any_node(context["fleet"], name)
    row = Node.objects.only("label_edits", "reported_labels", "drain_until_return").get(pk=shown.id)
    history = Event.objects.filter(node_id=shown.id, kind__in=HISTORY)
    context |= {
        "node": shown,
        "status": display_status(shown),
        "lease_level": lease_level(shown),
        "rows": [p for p in context["fleet"].portfolios if p.node == shown.name],
        "handoffs": [_handoff_row(handoff) for handoff in _newest_handoffs(shown.id)],
        "history": page_by_id(history, request.GET, size=HISTORY_ROWS),
        "labels": _labels(row, shown.labels),
        "progress": drain_progress(shown),
        "until_return": row.drain_until_return,
        # Without the edits of operators, which Ginkgo adds to what the daemon reports.
        "command": node_command(
            _server_address(request), name, shown.capacity, row.reported_labels
        ),
    }
    if context["may_act"]:
        tokens = NodeToken.objects.filter(node_id=shown.id).order_by("-pk")[: TOKEN_ROWS + 1]
        context["tokens"] = list(tokens)[:TOKEN_ROWS]
        context["tokens_more"] = len(tokens) > TOKEN_ROWS
    return render_page(request, "dashboard/node.html", context)


def _newest_handoffs(node_id: int) -> list[Handoff]:
    """Return the newest handoffs from or to the node: two statements, since each uses an index."""
    rows = Handoff.objects.select_related("portfolio", "source_node", "target_node").order_by("-pk")
    found = [
        rows.filter(source_node=node_id)[:HANDOFF_ROWS],
        rows.filter(target_node=node_id).exclude(source_node=node_id)[:HANDOFF_ROWS],
    ]
    newest = heapq.merge(*found, key=lambda row: -row.pk)
    return list(newest)[:HANDOFF_ROWS]


def _handoff_row(row: Any) -> dict[str, Any]:
    return {
        "row": row,
        "kind_text": kind_text(row),
        "reason_text": reason_text(row),
        "source": row.source_node and row.source_node.name,
        "target": row.target_node and row.target_node.name,
    }


def _labels(row: Node, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Return the labels of the node, then those that an operator removed, whose `text` is empty.

    `edited`: by an operator. `was`: what the daemon reports, or None if it reports no such label.
    """
    edits, reported = row.label_edits, row.reported_labels
    shown = [
        {"text": f"{key}={value}", "edited": key in edits, "was": reported.get(key)}
        for key, value in sorted(labels.items())
    ]
    removed = sorted(key for key, value in edits.items() if value is None and key in reported)
    shown += [{"text": "", "edited": True, "was": f"{key}={reported[key]}"} for key in removed]
    return shown


def _server_address(request: HttpRequest) -> str:
    return request.build_absolute_uri("/").rstrip("/")


def drain_progress(shown: NodeView) -> dict[str, Any] | None:
    """Return since when the node drains, and how many of its portfolios have left, of how many.

    None for a node that does not drain, and if the audit log no longer has the beginning of the
    drain. Two statements.
    """
    if not shown.draining:
        return None
    begun = Event.objects.filter(node_id=shown.id, kind="node_draining").order_by("-pk").first()
    if begun is None:
        return None
    gone = (
        Handoff.objects.filter(source_node=shown.id, state="done", requested_at__gte=begun.at)
        .exclude(target_node=shown.id)  # a reload, which stays here
        .values("portfolio")
        .distinct()
        .count()
    )
    return {"since": begun.at, "gone": gone, "all": gone + len(shown.portfolios)}


@operator_required
def drain(request: HttpRequest, name: str) -> HttpResponse:
    """Show what a drain would do, portfolio by portfolio; on POST begin it."""
    context = page_context(request, "nodes")
    shown = find_node(context["fleet"], name)
    plan = drain_document(name)
    context |= {
        "node": shown,
        "plan": plan,
        "leave": plan["leave"][:PLAN_ROWS],
        "leave_more": max(len(plan["leave"]) - PLAN_ROWS, 0),
        "stay": plan["stay"][:PLAN_ROWS],
        "stay_more": max(len(plan["stay"]) - PLAN_ROWS, 0),
        "losses": [row for row in plan["losses"] if row["is_worse"]][:PLAN_ROWS],
    }
    return perform_action(
        request,
        node_actions.DRAIN,
        shown,
        name,
        context,
        template="dashboard/parts/drain_form.html",
    )


@operator_required
def labels(request: HttpRequest, name: str) -> HttpResponse:
    """Show the labels in a form; on POST replace them."""
    context = page_context(request, "nodes")
    shown = find_node(context["fleet"], name)
    here = [p for p in context["fleet"].portfolios if p.node == name and p.selector]
    context |= {
        "action": node_actions.LABEL_NODE,
        "node": shown,
        "needed": [(p.name, labels_text(p.selector)) for p in here[:20]],
        "wide_fields": ("labels", "reason"),
    }
    form = LabelsForm(
        posted(request), initial={"labels": labels_text(shown.labels).replace(" ", "\n")}
    )

    def replace_labels(given: dict[str, Any]) -> HttpResponse:
        actor = request.user.get_username()
        node_actions.LABEL_NODE.call(name, given["labels"], actor=actor, reason=given["reason"])
        return succeed(request, node_actions.LABEL_NODE.outcome(name))

    return submit_form(request, "dashboard/parts/labels_form.html", context, form, replace_labels)


@operator_required
def new_token(request: HttpRequest, name: str = "") -> HttpResponse:
    """Show a form; on POST create a token and show it, this once.

    Without a `name` the token is for a new node, whose name the form asks for.
    """
    context = page_context(request, "nodes")
    context |= {
        "action": node_actions.ISSUE_NODE_TOKEN,
        "node": find_any_node(context["fleet"], name) if name else None,
        "wide_fields": (),
        "title": node_actions.ISSUE_NODE_TOKEN.summary(name) if name else _("Add a node"),
        "button": _("Create the token"),
    }

    def issue(given: dict[str, Any]) -> HttpResponse:
        node_name = name or given["node"]
        if not name and Node.objects.filter(name=node_name, status__in=("alive", "lost")).exists():
            message = _("There is a node of this name: its page creates tokens for it.")
            raise Refused("exists", "", errors=[{"field": "node", "message": message}])
        token = node_actions.ISSUE_NODE_TOKEN.call(
            node_name,
            actor=request.user.get_username(),
            wanted=NewToken(given["token_name"], given["days"]),
        )
        return _show_token(request, node_name, token, given.get("capacity"), context)

    form = NodeTokenForm(posted(request), is_new_node=not name)
    # An error of `name` is about the new node, or on the page of a node about the token's purpose.
    renamed = {"name": "token_name" if name else "node"}
    return submit_form(request, FIELDS_FORM, context, form, issue, renamed)


def _show_token(
    request: HttpRequest, name: str, token: str, capacity: int | None, context: dict[str, Any]
) -> HttpResponse:
    """Show a token, which no page shows again, and the line that starts the daemon with it."""
    row = Node.objects.only("reported_labels", "capacity").get(name=name)
    command = node_command(
        _server_address(request), name, capacity or row.capacity, row.reported_labels
    )
    context |= {
        "token": token,
        "line": first_start(token, name, command),
        "name": name,
        "page": reverse("node", args=[name]),
    }
    return render_form(request, "dashboard/parts/node_token_shown.html", context)


@operator_required
def revoke_token(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Revoke one token of the node."""
    token = NodeToken.objects.select_related("node").filter(pk=number, node__name=name).first()
    if token is None:
        raise NotFound("node token", str(number))
    what = _("token %(token)s of %(name)s") % {"token": token.name or token.pk, "name": name}
    return perform_action(
        request,
        access_actions.REVOKE_TOKEN,
        token,
        what,
        page_context(request, "nodes"),
        call_with=token,
    )
