"""Lists whose rows link to a portfolio and a node."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from scheduling.admin.base import FleetAdmin
from scheduling.admin.display import link


class RelatedAdmin(FleetAdmin):
    """Base of lists whose rows may name a portfolio and a node: adds both as columns of links."""

    @admin.display(description=_("portfolio"), ordering="portfolio__name")
    def portfolio_shown(self, row: Any) -> str:
        """Return a link to the portfolio, or a dash if the row has none."""
        return link(row.portfolio)

    @admin.display(description=_("node"), ordering="node__name")
    def node_shown(self, row: Any) -> str:
        """Return a link to the node, or a dash if the row has none."""
        return link(row.node)
