"""The scheduling app."""

from __future__ import annotations

import sys
from typing import Any

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate

#: PostgreSQL cancels a statement after 30 s, so only a server that hangs exceeds this limit.
WORKER_STATEMENT_LIMIT_S = 35.0


class SchedulingConfig(AppConfig):
    """Schedule portfolios on execution nodes."""

    name = "scheduling"
    label = "scheduling"
    verbose_name = "Scheduling"

    def ready(self) -> None:
        from django.conf import settings
        from django_q import signals

        from ginkgo_site.deadline import limit_statements
        from portfolios import strategy_inspection
        from scheduling import task_registry, user_audit
        from scheduling.db import failpoints

        # django-q2 offers no hook that runs before its own processes open their connections.
        if sys.argv[1:2] == ["qcluster"]:
            limit_statements(WORKER_STATEMENT_LIMIT_S)
        strategy_inspection.find_code = _code_for_check
        failpoints.arm(settings.GINKGO.failpoints)
        signals.pre_enqueue.connect(task_registry.refuse_at_enqueue)
        signals.pre_execute.connect(task_registry.refuse_in_worker)
        user_audit.connect()
        # After every migrate, not in a data migration: tests that empty tables would undo that.
        post_migrate.connect(install_schedules, sender=self)
        post_migrate.connect(install_groups, sender=self)


def _code_for_check(sha256: str) -> Any:
    """Call `code_for_check`, imported late: no migration needs the caches of a node."""
    from scheduling.artifact_code import code_for_check

    return code_for_check(sha256)


#: Interval at which the queue looks for verifications that are due (GINKGO_VERIFY_INTERVAL_S).
VERIFY_PASS_S = 300
#: Interval at which messages about alerts are tried again; a new one is sent at once.
DELIVERY_PASS_S = 10


def install_schedules(sender: Any, using: str = "default", **kwargs: Any) -> None:
    """Schedule the tasks in django-q2 by cron, since its intervals start at one minute."""
    from django.conf import settings
    from django_q.models import Schedule

    interval_s = settings.GINKGO.balance_interval_s
    # `heartbeat_sweep` follows streams now. The release before, which runs beside this one in an
    # upgrade, refuses new schedules: new work is added to a task that both releases know.
    Schedule.objects.using(using).filter(func="scheduling.tasks.follow_streams").delete()
    for name, every_s in (
        ("balance", interval_s),
        ("heartbeat_sweep", interval_s),
        ("deliver_alerts", DELIVERY_PASS_S),
        ("verify_in_background", VERIFY_PASS_S),
        ("prune", settings.GINKGO.retention_interval_s),
    ):
        Schedule.objects.using(using).update_or_create(
            name=name,
            defaults={
                "func": f"scheduling.tasks.{name}",
                "schedule_type": Schedule.CRON,
                "cron": cron(every_s),
                "repeats": -1,
            },
        )


def install_groups(sender: Any, using: str = "default", **kwargs: Any) -> None:
    """Create the groups operator, viewer and administrator, the last with its permissions."""
    from django.contrib.auth.management import create_permissions
    from django.contrib.auth.models import Group, Permission
    from django.db import connections

    from scheduling import permissions

    if Group._meta.db_table not in connections[using].introspection.table_names():
        return  # only some apps were migrated
    administrators = permissions.ADMINISTRATOR_GROUP
    for name in (permissions.OPERATOR_GROUP, permissions.VIEWER_GROUP, administrators):
        Group.objects.using(using).get_or_create(name=name)
    # Django creates permissions in a receiver of the same signal, which may run after this one.
    create_permissions(apps.get_app_config("auth"), verbosity=0, using=using)
    group = Group.objects.using(using).get(name=administrators)
    for app, codename in permissions.ADMINISTRATOR_RIGHTS:
        right = Permission.objects.using(using).get(content_type__app_label=app, codename=codename)
        group.permissions.add(right)


def cron(interval_s: int) -> str:
    """Return cron with six fields, seconds last, for the longest even interval up to `interval_s`.

    An even one divides a minute, an hour or a day: */45 would start at second 45 and again at 0.
    """
    for unit_s, units, line in (
        (3600, 24, "0 {} * * * 0"),  # some hours of a day
        (60, 60, "{} * * * * 0"),  # some minutes of an hour
        (1, 60, "* * * * * {}"),  # some seconds of a minute
    ):
        if interval_s >= unit_s:
            most = min(interval_s // unit_s, units)
            every = max(divisor for divisor in range(1, most + 1) if units % divisor == 0)
            return line.format(0 if every == units else f"*/{every}")
    # Settings are checked by `env.py`, so only an interval written in this file can be wrong.
    raise ValueError(f"the interval of a scheduled task is {interval_s} s; the shortest is 1 s")
