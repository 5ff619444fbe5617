"""Django's admin: lists of all rows, and actions with a confirmation page.

Rows of the fleet change only through `scheduling.enact`, so no form edits them. Portfolios are
registered here instead of in `portfolios`, since actions on them belong to scheduling.
"""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from scheduling.admin import events, nodes, people, portfolios, queue, records, secrets, tokens
from scheduling.admin.labels import label, translate_labels

__all__ = ["events", "nodes", "people", "portfolios", "queue", "records", "secrets", "tokens"]

admin.site.site_header = "Ginkgo"
admin.site.site_title = "Ginkgo"
admin.site.index_title = _("The fleet")

for _app in map(apps.get_app_config, ("portfolios", "scheduling", "django_q")):
    _app.verbose_name = label(str(_app.verbose_name))
    translate_labels(_app.get_models())
