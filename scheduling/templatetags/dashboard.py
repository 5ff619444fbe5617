"""Template filters that format numbers and times (`scheduling.presentation.formatting`)."""

from __future__ import annotations

import json
from typing import Any

from django import template
from django.http import QueryDict
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scheduling.observe.incarnations import digest, without_incarnations
from scheduling.observe.localized_reason import localized_reason
from scheduling.presentation import formatting

register = template.Library()

for _name in (
    "whole",
    "money",
    "signed_money",
    "price",
    "quantity",
    "percent",
    "direction",
    "places",
    "pause",
    "span",
    "clock",
    "moment",
):
    register.filter(_name, getattr(formatting, _name))

register.filter("told", localized_reason)
register.filter("digest", digest)
register.filter("without_incarnations", without_incarnations)


@register.filter
def compact_json(value: Any) -> str:
    """Return the value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


@register.filter
def configured(value: Any) -> str:
    """Return a configured value as a person reads it: a text without quotes, the rest as JSON."""
    return value if isinstance(value, str) else compact_json(value)


@register.simple_tag
def icon(name: str, label: str = "", css: str = "") -> SafeString:
    """Return a sprite icon. With a label it is an image for the ear too, else it is decoration."""
    classes = f"i {css}".strip()
    if label:
        return format_html(
            '<svg class="{}" role="img" aria-label="{}"><use href="#{}"/></svg>',
            classes,
            label,
            name,
        )
    return format_html('<svg class="{}" aria-hidden="true"><use href="#{}"/></svg>', classes, name)


@register.simple_tag(takes_context=True)
def address_with(context: dict[str, Any], **changes: Any) -> str:
    """Return the page's query string with `changes`; None or an empty text takes a key away."""
    query: QueryDict = context["request"].GET.copy()
    for key, value in changes.items():
        if value in (None, ""):
            query.pop(key, None)
        else:
            query[key] = str(value)
    return f"?{query.urlencode()}" if query else "?"
