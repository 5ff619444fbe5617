"""Django's admin: lists of all rows, and actions with a confirmation page.

Rows of the fleet change only through `scheduling.enact`, so no form edits them. Portfolios are
registered here instead of in `portfolios`, since actions on them belong to scheduling.
"""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from scheduling.admin import events, nodes, people, portfolios, queue, records, secrets, tokens

__all__ = ["events", "nodes", "people", "portfolios", "queue", "records", "secrets", "tokens"]

admin.site.site_header = "Ginkgo"
admin.site.site_title = "Ginkgo"
admin.site.index_title = _("The fleet")
