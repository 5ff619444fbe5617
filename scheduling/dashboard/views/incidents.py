"""Incidents: the list, the page of one, its export, and the addresses that lead to one."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from scheduling.dashboard.context import page_context, render_page, render_problem
from scheduling.dashboard.decorators import viewer_required
from scheduling.dashboard.pagination import int_parameter, page_by_offset, text_parameter
from scheduling.models import Handoff
from scheduling.observe.incidents import newest_incident, read_incident, read_incidents
from scheduling.presentation.incidents import incident_csv, incident_details, incident_document

ROWS = 25
OUTAGE_ROWS = 100  #: outages on a page


@require_safe
@viewer_required
def incident_list(request: HttpRequest) -> HttpResponse:
    """List incidents, newest first; filter: `?node=`."""
    context = page_context(request, "handoffs")
    node, before = text_parameter(request.GET, "node"), int_parameter(request.GET, "before")
    found = read_incidents(node, _possible_id(before), ROWS + 1)
    older = str(found[ROWS - 1].id) if len(found) > ROWS else None
    context |= {
        "rows": [incident_document(each) for each in found[:ROWS]],
        "table_page": {"older": older, "is_first": before is None},
        "node": node,
    }
    return render_page(request, "dashboard/incidents.html", context)


def _possible_id(number: int | None) -> int | None:
    """Return the number if it can be the id of an incident, which is a bigint, else None."""
    return number if number is not None and 0 <= number < 2**63 else None


@require_safe
@viewer_required
def incident(request: HttpRequest, number: int) -> HttpResponse:
    """Show one incident: cause, each portfolio with its time without an owner, verification."""
    shown, outages = read_incident(number)
    document = incident_details(shown, outages)
    context = page_context(request, "handoffs")
    context |= {
        "incident": document,
        "table_page": page_by_offset(document["outages"], request.GET, "from", OUTAGE_ROWS),
        "permalink": request.build_absolute_uri(reverse("incident", args=[number])),
    }
    return render_page(request, "dashboard/incident.html", context)


@require_safe
@viewer_required
def export(request: HttpRequest, number: int, extension: str) -> HttpResponse:
    """Return the incident as a file, JSON or CSV."""
    document = incident_details(*read_incident(number))
    name = f"incident-{number}.{extension}"
    headers = {
        "Cache-Control": "private, no-store",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    if extension == "json":
        return JsonResponse(document, headers=headers, json_dumps_params={"indent": 2})
    content = incident_csv(document)
    return HttpResponse(content, content_type="text/csv; charset=utf-8", headers=headers)


@require_safe
@viewer_required
def of_node(request: HttpRequest, name: str) -> HttpResponse:
    """Go to the newest incident of the node; 404 if it was never lost."""
    sentence = _("%(name)s was never lost.") % {"name": name}
    return go_to_incident(request, newest_incident(name), sentence)


@require_safe
@viewer_required
def of_handoff(request: HttpRequest, handoff_id: int) -> HttpResponse:
    """Go to the incident that caused the handoff, a failover; 404 if none is known."""
    row = Handoff.objects.select_related("source_node").filter(pk=handoff_id).first()
    number = None
    if row is not None and row.kind == "failover" and row.source_node is not None:
        number = newest_incident(row.source_node.name, row.requested_at)
    sentence = _("No loss of a node is known to have caused handoff %(number)s.")
    return go_to_incident(request, number, sentence % {"number": handoff_id})


def go_to_incident(request: HttpRequest, number: int | None, otherwise: str) -> HttpResponse:
    """Go to the incident; if the number is None, answer 404 with the sentence `otherwise`."""
    if number is None:
        return render_problem(request, 404, _("No such incident"), otherwise)
    return redirect("incident", number)
