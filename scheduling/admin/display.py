"""Format values for lists of the admin: coloured states, links, milliseconds."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from scheduling.presentation.formatting import UNKNOWN, whole
from scheduling.presentation.state_words import state_word

#: CSS class suffix → the statuses that it colours. Other statuses are neutral.
_COLOURED = {
    "fine": ("alive", "running", "done", "good", "filled"),
    "look": ("suspect", "pending", "halted", "rolled_back", "unproven", "suppressed"),
    "moving": ("starting", "draining", "requested", "preparing", "activating"),
    "act": ("lost", "quarantined", "failed", "rejected", "refused"),
}
_STATUS_CLASSES = {status: css for css, statuses in _COLOURED.items() for status in statuses}


def coloured_state(value: str) -> str:
    """Return the HTML of a state: the reader's word for it, in its colour."""
    style = _STATUS_CLASSES.get(value, "plain")
    return format_html('<span class="gk-{}">{}</span>', style, state_word(value))


def link(row: Any, text: str | None = None) -> str:
    """Return a link to the row's page that reads `text`, by default its name; a dash for None."""
    if row is None:
        return UNKNOWN
    meta = row._meta
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', url, text or str(row))


def list_link(model: Any, text: str, **filters: Any) -> str:
    """Return a link to the admin's list of the model, filtered."""
    meta = model._meta
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist")
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    return format_html('<a href="{}?{}">{}</a>', url, query, text)


def milliseconds(value: float | None) -> str:
    return UNKNOWN if value is None else _("%(number)s ms") % {"number": whole(value)}
