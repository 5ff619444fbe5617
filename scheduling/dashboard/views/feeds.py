"""Feeds: the list, and the page of one with its readers and known gaps."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from scheduling.dashboard.context import page_context, render_page, render_problem
from scheduling.dashboard.decorators import viewer_required
from scheduling.observe.feeds import newest_gaps, newest_records, read_feeds


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
        return render_problem(request, 404, "No such feed", f"There is no feed named {name}.")
    context = page_context(request, "nodes") | {
        "feed": found[0],
        "records": newest_records(name),
        "gaps": newest_gaps(name),
    }
    return render_page(request, "dashboard/feed.html", context)
