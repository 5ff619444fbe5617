"""Alerts: the open ones, their history, acknowledging, and where they are sent."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from scheduling.dashboard.context import page_context, render_page
from scheduling.dashboard.decorators import operator_required, viewer_required
from scheduling.dashboard.forms import AlertChannelForm
from scheduling.dashboard.pagination import page_by_id, text_parameter
from scheduling.dashboard.views.actions import (
    FIELDS_FORM,
    find_action,
    perform_action,
    posted,
    submit_form,
    succeed,
)
from scheduling.dashboard.views.incidents import go_to_incident
from scheduling.enact.alerts import KINDS
from scheduling.errors import NotFound
from scheduling.models import Alert, AlertChannel
from scheduling.observe.incidents import newest_incident
from scheduling.operations.alerts import channels_with_newest_message
from scheduling.operations.registry import alert_actions

MAX_OPEN = 200  #: open alerts that the page lists
CHANNEL_ACTIONS = {
    each.verb: each
    for each in (alert_actions.TEST_ALERT_CHANNEL, alert_actions.REMOVE_ALERT_CHANNEL)
}


@require_safe
@viewer_required
def alert_list(request: HttpRequest) -> HttpResponse:
    """List open alerts, then those that are over, newest first; filter: `?kind=`."""
    context = page_context(request, "alerts")
    kind = text_parameter(request.GET, "kind")
    rows = Alert.objects.select_related("portfolio__run", "node")
    if kind:
        rows = rows.filter(kind=kind)
    context |= {
        "open_alerts": list(rows.filter(closed_at=None).order_by("-pk")[:MAX_OPEN]),
        "table_page": page_by_id(rows.exclude(closed_at=None), request.GET),
        "kind": kind,
        "kinds": KINDS,
        "channels": channels_with_newest_message() if context["may_act"] else [],
    }
    return render_page(request, "dashboard/alerts.html", context)


@require_safe
def icon(request: HttpRequest, count: int) -> HttpResponse:
    """Return the icon of a page while `count` alerts are open, with their number, 99 at most."""
    number = min(count, 99)
    response = render(
        request, "dashboard/alert_icon.svg", {"number": number}, content_type="image/svg+xml"
    )
    patch_cache_control(response, public=True, max_age=86_400)
    return response


@require_safe
@viewer_required
def incident(request: HttpRequest, number: int) -> HttpResponse:
    """Go to the incident that opened an alert; 404 if none is known."""
    alert = Alert.objects.select_related("node").filter(pk=number, kind="node_lost").first()
    found = None
    if alert is not None and alert.node is not None:
        found = newest_incident(alert.node.name, alert.opened_at)
    sentence = _("No loss of a node is known to have opened alert %(number)s.")
    return go_to_incident(request, found, sentence % {"number": number})


@operator_required
def acknowledge(request: HttpRequest, number: int) -> HttpResponse:
    """Acknowledge an alert, with a note."""
    alert = Alert.objects.filter(pk=number).first()
    if alert is None:
        raise NotFound("alert", str(number))
    context = page_context(request, "alerts")
    return perform_action(request, alert_actions.ACKNOWLEDGE_ALERT, alert, number, context)


@operator_required
def set_channel(request: HttpRequest) -> HttpResponse:
    """Show the form of a channel for alerts; on POST store the channel."""
    context = page_context(request, "alerts") | {
        "action": alert_actions.ADD_ALERT_CHANNEL,
        "wide_fields": ("address",),
        "title": _("Send alerts to"),
        "button": _("Send alerts there"),
        "examples": "dashboard/parts/channel_examples.html",
    }

    def add(given: dict[str, Any]) -> HttpResponse:
        name, actor = given["name"], request.user.get_username()
        alert_actions.ADD_ALERT_CHANNEL.call(name, given["address"], actor=actor)
        return succeed(request, alert_actions.ADD_ALERT_CHANNEL.outcome(name))

    return submit_form(request, FIELDS_FORM, context, AlertChannelForm(posted(request)), add)


@operator_required
def channel_action(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """Test or remove a channel."""
    operation = find_action(CHANNEL_ACTIONS, verb)
    channel = AlertChannel.objects.filter(name=name).first()
    if channel is None:
        raise NotFound("channel", name)
    context = page_context(request, "alerts")
    return perform_action(request, operation, channel, name, context, then=reverse("alerts"))
