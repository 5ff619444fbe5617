"""The scheduling app."""

from __future__ import annotations

from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    """Who runs what."""

    name = "scheduling"
    label = "scheduling"
    verbose_name = "Scheduling"
