"""The queue of django-q2: shown to operators, read only.

A schedule names a function by its import path, so a form that edits it would execute any code.
Arguments and results are pickles, which execute code when they are read: no page reads them.
"""

from __future__ import annotations

from typing import Any

import django_q.admin  # noqa: F401  # registers its forms first, whichever is imported first
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django_q.models import Failure, OrmQ, Schedule, Success

from scheduling.admin.base import OperatorsAdmin

for model in (Failure, OrmQ, Schedule, Success):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


@admin.register(Schedule)
class ScheduleAdmin(OperatorsAdmin):
    """Scheduled tasks, and their next run. Only `migrate` writes them."""

    list_display = ("name", "func", "schedule_type", "cron", "repeats", "next_run")
    fields = ("name", "func", "hook", "args", "kwargs", *list_display[2:])


@admin.register(Success, Failure)
class DoneAdmin(OperatorsAdmin):
    """Completed tasks. Errors are in the log of the worker."""

    list_display = ("name", "func", "started", "stopped", "attempt_count")
    fields = ("id", *list_display, "group", "cluster", "success")
    search_fields = ("name", "func")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows without the pickled columns."""
        return super().get_queryset(request).defer("args", "kwargs", "result")


@admin.register(OrmQ)
class WaitingAdmin(OperatorsAdmin):
    """Tasks that wait for a worker."""

    list_display = ("id", "key", "lock")
    fields = list_display
