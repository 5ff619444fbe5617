"""The scheduling app."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class SchedulingConfig(AppConfig):
    """Who runs what."""

    name = "scheduling"
    label = "scheduling"
    verbose_name = "Scheduling"

    def ready(self) -> None:
        from django.conf import settings

        from scheduling.enact import failpoints

        failpoints.arm(settings.GINKGO.failpoints)
        # After every migrate, not in a data migration: a test that empties tables would lose it.
        post_migrate.connect(install_schedules, sender=self)


def install_schedules(sender: Any, using: str = "default", **kwargs: Any) -> None:
    """Have django-q2 run the passes. Six-field cron, since its minutes start at one minute."""
    from django.conf import settings
    from django_q.models import Schedule

    interval_s = settings.GINKGO.balance_interval_s
    for name in ("balance", "heartbeat_sweep"):
        Schedule.objects.using(using).update_or_create(
            name=name,
            defaults={
                "func": f"scheduling.tasks.{name}",
                "schedule_type": Schedule.CRON,
                "cron": cron(interval_s),
                "repeats": -1,
            },
        )
    Schedule.objects.using(using).update_or_create(
        name="prune",
        defaults={
            "func": "scheduling.tasks.prune",
            "schedule_type": Schedule.DAILY,
            "repeats": -1,
        },
    )


def cron(interval_s: int) -> str:
    """Return the six-field cron line for every `interval_s`: in seconds, from 60 on in minutes."""
    if interval_s < 60:
        return f"* * * * * */{interval_s}"
    return f"*/{min(interval_s // 60, 59)} * * * * 0"
