"""Orders, fills and revisions of portfolios, and the feeds. Read only."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from portfolios.models import FeedRow, FeedSegment, Fill, Order, Revision
from scheduling.admin.base import FleetAdmin, ReadOnlyInline
from scheduling.admin.display import coloured_state
from scheduling.admin.labels import word_column, word_filter
from scheduling.admin.related import RelatedAdmin
from scheduling.observe.localized_reason import localized_text
from scheduling.presentation.formatting import price
from scheduling.presentation.state_words import state_word


class PricedAdmin(RelatedAdmin):
    """Base of the lists of orders and fills: adds the column `price_shown`."""

    @admin.display(description=_("price"), ordering="price")
    def price_shown(self, row: Order | Fill) -> str:
        """Return the price as text, with four decimal places at least."""
        return price(row.price)


@admin.register(Order)
class OrderAdmin(PricedAdmin):
    """Orders of portfolios."""

    list_display = (
        "portfolio_shown",
        "seq",
        word_column("side"),
        "quantity",
        "symbol",
        "price_shown",
        word_column("status", coloured_state),
        "node",
        "revision",
        "committed_at",
        word_column("reason", localized_text),
    )
    list_filter = (
        ("status", word_filter(state_word)),
        ("side", word_filter(state_word)),
        "portfolio",
    )
    list_select_related = ("portfolio",)
    search_fields = ("=symbol", "=id")
    ordering = ("-committed_at",)


@admin.register(Fill)
class FillAdmin(PricedAdmin):
    """Executions of orders."""

    list_display = (
        "portfolio_shown",
        "fill_seq",
        word_column("side"),
        "quantity",
        "symbol",
        "price_shown",
        "at",
    )
    list_filter = (("side", word_filter(state_word)), "portfolio")
    list_select_related = ("portfolio",)
    search_fields = ("=symbol",)
    ordering = ("-id",)


@admin.register(Revision)
class RevisionAdmin(RelatedAdmin):
    """Configurations of portfolios."""

    list_display = (
        "portfolio_shown",
        "number",
        "strategy",
        word_column("status", coloured_state),
        word_column("status_reason", localized_text),
        "created_by",
        "created_at",
    )
    list_filter = ("status", "strategy")
    list_select_related = ("portfolio",)
    search_fields = ("portfolio__name",)
    ordering = ("-id",)


class SegmentInline(ReadOnlyInline):
    """The rates of the feed."""

    model = FeedSegment
    fields = ("from_seq", "from_time", "rate")
    readonly_fields = fields


@admin.register(FeedRow)
class FeedAdmin(FleetAdmin):
    """Market-data logs."""

    list_display = ("name", "length", "sha256")
    inlines = (SegmentInline,)
