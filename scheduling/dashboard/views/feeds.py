"""Feeds: the list, and the page of one with its readers and known gaps."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from scheduling.dashboard.context import page_context, render_page
from scheduling.dashboard.decorators import viewer_required
from scheduling.errors import NotFound, Refused
from scheduling.observe.feeds import gap_views, read_feeds, record_views
from scheduling.recorded_feeds.reads import newest_events

SHOWN = 20  #: newest records that the page lists
SEARCHED_FOR_GAPS = 2_000  #: newest records; earlier gaps are not shown


@require_safe
@viewer_required
def feed_list(request: HttpRequest) -> HttpResponse:
    """List all feeds; there are few."""
    context = page_context(request, "nodes") | {"feeds": read_feeds()}
    return render_page(request, "dashboard/feeds.html", context)


@require_safe
@viewer_required
def feed(request: HttpRequest, name: str) -> HttpResponse:
    """Show one feed: head, rate, silence, the lag of each node, gaps and the newest records."""
    found = read_feeds(name)
    if not found:
        raise NotFound("feed", name)
    unread = ""
    try:
        events = newest_events(name, SEARCHED_FOR_GAPS)
    except Refused as refused:  # the NATS server is away: PostgreSQL has the rest of the page
        events, unread = [], refused.message
    context = page_context(request, "nodes") | {
        "feed": found[0],
        "records": record_views(events[:SHOWN]),
        "gaps": gap_views(events),
        "unread": unread,
    }
    return render_page(request, "dashboard/feed.html", context)
