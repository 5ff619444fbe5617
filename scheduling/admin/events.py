"""Handoffs, tenures, the audit log and alerts. Read only."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from scheduling.admin.display import coloured_state, link, milliseconds
from scheduling.admin.labels import label, word_column, word_filter
from scheduling.admin.related import RelatedAdmin
from scheduling.models import Alert, Event, Handoff, Tenure
from scheduling.observe.localized_reason import localized_reason, localized_text
from scheduling.presentation.state_words import alert_word, event_word, state_word


@admin.register(Handoff)
class HandoffAdmin(RelatedAdmin):
    """Changes of owner or revision, newest first."""

    list_display = (
        "id",
        "portfolio_shown",
        "kind",
        word_column("state", coloured_state),
        "source",
        "target",
        "epochs",
        "pause",
        "requested_by",
        "requested_at",
        "reason_shown",
    )
    list_filter = ("state", "kind", "source_node", "target_node")
    list_select_related = ("portfolio", "source_node", "target_node")
    search_fields = ("portfolio__name", "reason", "error")

    @admin.display(description=label("source node"), ordering="source_node__name")
    def source(self, row: Handoff) -> str:
        return link(row.source_node)

    @admin.display(description=label("target node"), ordering="target_node__name")
    def target(self, row: Handoff) -> str:
        return link(row.target_node)

    @admin.display(description=label("epochs"))
    def epochs(self, row: Handoff) -> str:
        """Return the epochs before and after the handoff, the latter – if nothing was granted."""
        return f"{row.from_epoch} → {'–' if row.to_epoch is None else row.to_epoch}"

    @admin.display(description=_("pause"), ordering="pause_ms")
    def pause(self, row: Handoff) -> str:
        """Return the time without commits in ms, or a dash if it is unknown."""
        return milliseconds(row.pause_ms)

    # Not the column `why` itself, of which a list shows the JSON.
    @admin.display(description=_("reason"))
    def reason_shown(self, row: Handoff) -> str:
        """Return the error of the handoff; without one, the reason for the handoff."""
        return localized_text(row.error) if row.error else localized_reason(row)


@admin.register(Tenure)
class TenureAdmin(RelatedAdmin):
    """Owners of portfolios, with their first and last event."""

    list_display = (
        "portfolio_shown",
        "epoch",
        "node_shown",
        "revision",
        "from_seq",
        "to_seq",
        word_column("cause"),
        "pause",
        "started_at",
        "ended_at",
    )
    list_filter = (("cause", word_filter(state_word)), "node")
    list_select_related = ("portfolio", "node")
    search_fields = ("portfolio__name",)
    ordering = ("-id",)

    @admin.display(description=_("pause"), ordering="pause_ms")
    def pause(self, row: Tenure) -> str:
        """Return the time without commits before the tenure in ms, or a dash if it is unknown."""
        return milliseconds(row.pause_ms)


@admin.register(Event)
class EventAdmin(RelatedAdmin):
    """The audit log, newest first."""

    for_operators = ("data",)
    list_display = (
        "at",
        word_column("kind", event_word),
        "portfolio_shown",
        "node_shown",
        "actor",
        "interface",
        "address",
        word_column("reason", localized_text),
    )
    list_filter = (("kind", word_filter(event_word)), "interface", "node")
    list_select_related = ("portfolio", "node")
    search_fields = ("portfolio__name", "node__name", "actor", "reason")


@admin.register(Alert)
class AlertAdmin(RelatedAdmin):
    """Alerts, newest first."""

    list_display = (
        "opened_at",
        word_column("kind", alert_word),
        "portfolio_shown",
        "node_shown",
        "times",
        "closed_at",
        word_column("reason", localized_text),
    )
    list_filter = (("kind", word_filter(alert_word)), ("closed_at", admin.EmptyFieldListFilter))
    list_select_related = ("portfolio", "node")
    search_fields = ("portfolio__name", "node__name", "reason")
