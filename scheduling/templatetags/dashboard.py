"""Template tags of the dashboard: formatting, icons, links to the page with another query."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import template
from django.http import QueryDict
from django.urls import reverse
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from scheduling.dashboard.history import iso
from scheduling.dashboard.whatif import loss_tag
from scheduling.decide.labels import labels_text
from scheduling.observe.incarnations import digest
from scheduling.observe.localized_reason import localized_reason, localized_text
from scheduling.presentation import formatting, state_words
from scheduling.presentation.sentences import log_line_text
from scheduling.presentation.shell_command import shell_line

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
):
    register.filter(_name, getattr(formatting, _name))


def _time(at: datetime | None, shown: str, text: str) -> str | SafeString:
    """Return the element of a time: `text` is in UTC, and `times.js` shows it in the viewer's zone.

    `shown`: time (no date), moment (with the date unless it is today) or ms (date, milliseconds).
    """
    if at is None:
        return formatting.UNKNOWN
    return format_html('<time datetime="{}" data-shown="{}">{}</time>', iso(at), shown, text)


@register.filter
def clock(at: datetime | None) -> str | SafeString:
    """Return the time of day as an element. In an attribute use `clock_text`."""
    return _time(at, "time", formatting.clock(at).removesuffix(formatting.ZONE))


@register.filter
def moment(at: datetime | None) -> str | SafeString:
    """Return time and, unless it is today, date as an element. In an attribute: `moment_text`."""
    return _time(at, "moment", formatting.moment(at).removesuffix(formatting.ZONE))


@register.filter
def exact_moment(at: datetime | None) -> str | SafeString:
    """Return date and time with milliseconds as an element."""
    return _time(at, "ms", formatting.exact_moment(at).removesuffix(formatting.ZONE))


register.filter("clock_text", formatting.clock)
register.filter("moment_text", formatting.moment)
register.filter("localized_reason", localized_reason)
register.filter("localized_text", localized_text)
register.filter("log_line_text", log_line_text)
#: Filter → the CSS class of each state, and that of every other one.
_CLASSES: dict[str, tuple[dict[str, str], str]] = {
    # The other states of a handoff are those of a running one.
    "handoff_tag": (
        {"done": "tag-ok", "failed": "tag-warn", "rolled_back": "tag-warn", "superseded": ""},
        "tag-info",
    ),
    # Of a roll-out and of its portfolios; the others are under way.
    "roll_out_tag": (
        {"finished": "tag-ok", "done": "tag-ok", "back": "tag-ok", "returned": "tag-ok",
         "stopping": "tag-bad", "stopped": "tag-bad", "rejected": "tag-bad", "late": "tag-bad",
         "left": "tag-warn", "not_returned": "tag-warn", "skipped": "tag-warn", "waiting": ""},
        "tag-info",
    ),
    "node_tag": (
        {"alive": "tag-ok", "draining": "tag-info", "suspect": "tag-warn", "lost": "tag-bad"}, ""
    ),
    # What became of a portfolio in an incident.
    "outcome_tag": (
        {"moved": "tag-ok", "returned": "tag-ok", "kept": "tag-ok", "waits": "tag-bad"}, ""
    ),
    "order_tag": ({"open": "tag-info", "refused": "tag-bad", "suppressed": "tag-warn"}, ""),
    "verdict_class": ({"different": "bad"}, "ok"),
    "message_tag": ({"sent": "tag-ok", "failed": "tag-bad"}, "tag-warn"),
    "token_tag": ({"valid": "tag-ok"}, ""),
}  # fmt: skip


def _class_filter(classes: dict[str, str], other: str) -> Callable[[str], str]:
    return lambda state: classes.get(state, other)


for _name, (_classes, _other) in _CLASSES.items():
    register.filter(_name, _class_filter(_classes, _other))

register.filter("digest", digest)


@register.filter
def compact_json(value: Any) -> str:
    """Return the value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


for _name in ("state_word", "actor_word", "order_word", "item_word", "alert_word", "event_word"):
    register.filter(_name, getattr(state_words, _name))


@register.filter
def node_event(kind: str) -> str:
    """Return what an event of a node is called: `was lost`."""
    return str(state_words.NODE_EVENTS.get(kind, kind.replace("_", " ")))


register.filter("labels_text", labels_text)
register.filter("loss_tag", loss_tag)


@register.filter
def metric(value: float) -> str:
    """Return a strategy's own figure with six significant digits: 1,250, 0.0314."""
    return f"{value:,.6g}"


@register.filter
def revision_change(handoff: Any) -> str:
    """Return `r3 → r4`, or `r3` if the handoff keeps the revision."""
    if handoff.from_revision == handoff.to_revision:
        return f"r{handoff.to_revision}"
    return f"r{handoff.from_revision} → r{handoff.to_revision}"


register.simple_tag(shell_line)


@register.filter
def colon(text: str | None) -> str:
    """Return `: text`, or nothing for an empty text."""
    return f"{_(': ')}{text}" if text else ""


@register.filter
def semicolon(text: str | None) -> str:
    """Return `; text`, or nothing for an empty text."""
    return f"{_('; ')}{text}" if text else ""


#: First part of a field's path → how a page calls it; parameters go without.
_FIELD_WORDS = {"config": "", "limits": gettext_lazy("limit"), "symbols": gettext_lazy("symbols")}
#: Verb of an action → the label of its link.
_ACT_LABELS = {
    "edit": gettext_lazy("Edit…"),
    "start": gettext_lazy("Start…"),
    "stop": gettext_lazy("Stop…"),
    "reload": gettext_lazy("Reload…"),
}


@register.filter
def field_words(path: str) -> str:
    """Return a field for display: `fast` for `config.fast`, `limit largest_order`."""
    head, _, rest = path.partition(".")
    if not rest:
        return path.replace("_", " ")
    return f"{_FIELD_WORDS.get(head, head.replace('_', ' '))} {rest.replace('.', ' ')}".strip()


@register.filter
def limit_words(name: str) -> str:
    """Return a limit for display: `limit largest_order`."""
    return f"{_('limit')} {name}"


@register.filter
def act_label(verb: str) -> str:
    """Return the label of the link that asks for an action."""
    return str(_ACT_LABELS[verb])


@register.simple_tag
def with_links(sentence: str, links: list[Any]) -> SafeString:
    """Return a sentence of the audit log with its links.

    A link takes the place of its label; without its label in the sentence, it follows the sentence.
    """
    shown: str = conditional_escape(sentence)
    unplaced = {
        str(conditional_escape(link.label)): format_html(
            '<a class="link" href="{}">{}</a>', reverse(link.view, args=[link.argument]), link.label
        )
        for link in links
    }
    if unplaced:
        longest_first = sorted(map(re.escape, unplaced), key=len, reverse=True)
        # Whole names only: not within another name, a word, or an entity such as &amp;. Chinese
        # stands next to a name without a space.
        names = re.compile(rf"(?<![\w&-])(?:{'|'.join(longest_first)})(?![\w;-])", re.ASCII)
        shown = names.sub(lambda found: unplaced.pop(found[0], found[0]), shown)
    return SafeString(" ".join([shown, *unplaced.values()]))  # nosec B703 - all of it is escaped


@register.simple_tag
def icon(name: str, label: str = "", css: str = "") -> SafeString:
    """Return an icon of the sprite. Screen readers announce it only if it has a label."""
    classes = f"i {css}".strip()
    if label:
        return format_html(
            '<svg class="{}" role="img" aria-label="{}"><use href="#{}"/></svg>',
            classes,
            label,
            name,
        )
    return format_html('<svg class="{}" aria-hidden="true"><use href="#{}"/></svg>', classes, name)


@register.simple_tag
def fact(label: str, value: Any, css: str = "") -> SafeString:
    """Return one entry of a description list."""
    return format_html('<div><dt>{}</dt><dd class="{}">{}</dd></div>', label, css, value)


@register.simple_tag(takes_context=True)
def page_address(context: dict[str, Any], key: str, value: str) -> str:
    """Return the page's query string with `key` set to `value`."""
    return address_with(context, **{key: value})


@register.simple_tag(takes_context=True)
def address_with(context: dict[str, Any], **changes: Any) -> str:
    """Return the page's query string with `changes`; None or an empty text removes the key."""
    query: QueryDict = context["request"].GET.copy()
    for key, value in changes.items():
        if value in (None, ""):
            query.pop(key, None)
        else:
            query[key] = str(value)
    return f"?{query.urlencode()}" if query else "?"
