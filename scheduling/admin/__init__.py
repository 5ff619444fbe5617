"""Django's admin: everything at a glance, acts with a confirmation, nothing edited by hand.

Rows of the fleet change only through the statements of `scheduling.enact`, so no form writes them.
Portfolios stand here and not beside their models, because their acts belong to scheduling.
"""

from __future__ import annotations

from django.contrib import admin

from scheduling.admin import events, nodes, people, portfolios, queue, records, tokens

__all__ = ["events", "nodes", "people", "portfolios", "queue", "records", "tokens"]

admin.site.site_header = "Ginkgo"
admin.site.site_title = "Ginkgo"
admin.site.index_title = "The fleet"
