"""Bound the size of the database: attach partitions, delete old rows, archive old partitions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from django.apps import apps
from django.conf import settings
from django.db import connection
from django.utils import timezone

from ginkgo_site.env import CHECKOUT
from portfolios.retention import (
    MaintenanceOutcome,
    attach_partitions,
    has_expired_partitions,
    maintain,
)
from portfolios.retention.kinds import DAY_S
from scheduling.db.transaction import Transaction, execute
from scheduling.enact.alert_messages import prune_alert_messages
from scheduling.enact.feed_records import drop_due, drop_orphans, forget_appends
from scheduling.enact.idempotency import prune_keys
from scheduling.enact.portfolio_log import prune_log_lines
from scheduling.enact.prune import PRUNED, delete_batch
from scheduling.enact.storage import sample_storage
from scheduling.observe.storage import disk_free

#: The queue ends a task after 25 s; the next one continues where this one stopped.
BUDGET_S = 15.0
KEEP_FAILURES = timedelta(days=90)  #: failed tasks of the queue, and attempts to log in
#: Take the lock of the one process that archives, and limit how long its session may be idle.
TAKE_LOCK = """
SELECT set_config('idle_session_timeout', %s, false),
       pg_try_advisory_lock(hashtext('ginkgo retention'))
"""
#: After this time the server ends the session of a frozen process, and with it the lock: the next
#: process archives instead, and the frozen one fails at its next statement. The longest work
#: between two statements, reading back the file of a month, takes less.
IDLE_LIMIT = "30min"


def prune() -> str:
    """Attach partitions, delete old rows, start archiving if needed, and return a summary."""
    execute(sample_storage(disk_free()))
    attached = attach_partitions()
    rows = delete_rows(time.monotonic() + BUDGET_S)
    summary = f"{len(attached)} partitions attached, {rows} rows deleted"
    if has_expired_partitions():
        summary += f"; process {start_archiving()} archives old partitions"
    return summary


def delete_rows(until: float) -> int:
    """Delete old rows of unpartitioned tables until the monotonic time `until`; return how many."""
    keep_s = settings.GINKGO.keep_audit_days * DAY_S
    keep_log_s = settings.GINKGO.keep_log_days * DAY_S
    batches: list[Callable[[], Transaction[int]]] = [
        *(partial(delete_batch, statement, keep_s) for statement in PRUNED),
        prune_alert_messages,
        prune_keys,
        _drop_feed_records,
        drop_orphans,
        forget_appends,
        partial(prune_log_lines, keep_log_s),
    ]
    rows = _delete_framework_rows()
    for batch in batches:
        while time.monotonic() < until and (gone := execute(batch())):
            rows += gone
    return rows


def _drop_feed_records() -> Transaction[int]:
    """Drop the records that feeds no longer keep; return how many."""
    dropped = yield from drop_due()
    return sum(dropped.values())


def _delete_framework_rows() -> int:
    """Delete expired sessions, old rows of queue, admin and django-axes; return how many."""
    from django.contrib.admin.models import LogEntry
    from django.contrib.sessions.models import Session
    from django_q.models import Failure

    now = timezone.now()
    oldest_audit = now - timedelta(days=settings.GINKGO.keep_audit_days)
    oldest_failure = now - KEEP_FAILURES
    querysets = [
        Session.objects.filter(expire_date__lt=now),
        Failure.objects.filter(started__lt=oldest_failure),
        LogEntry.objects.filter(action_time__lt=oldest_audit),
    ]
    if apps.is_installed("axes"):
        querysets += [
            apps.get_model("axes", model).objects.filter(attempt_time__lt=oldest_failure)
            for model in ("AccessAttempt", "AccessLog", "AccessFailureLog")
        ]
    return sum(queryset.delete()[0] for queryset in querysets)


def start_archiving() -> int:
    """Start the process that archives, and return its pid. It is killed when this process ends."""
    command = [sys.executable, str(CHECKOUT / "manage.py"), "archive_records"]
    command += ["--parent", str(os.getpid())]
    return subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL).pid


def archive_now() -> MaintenanceOutcome | None:
    """Archive and drop old partitions; return what was done, None if another process does it."""
    with connection.cursor() as cursor:
        cursor.execute(TAKE_LOCK, [IDLE_LIMIT])
        _, has_lock = cursor.fetchone()
        if not has_lock:
            return None
        # Finding the age of a partition reads all of it, which may be a month of rows.
        cursor.execute("SET statement_timeout = 0")
    return maintain(settings.GINKGO.archive, verified_to())


#: Of each portfolio: id, and the last verified seq, or the one before its first event.
VERIFIED_TO = """
SELECT p.id, coalesce((SELECT max(x.seq) FROM scheduling_verificationanchor x
                       WHERE x.portfolio_id = p.id), p.first_seq - 1)
FROM portfolios_portfolio p WHERE p.archived_at IS NULL
"""


def verified_to() -> dict[int, int]:
    """Return portfolio id → the seq of its newest verification anchor, for each existing portfolio.

    The next verification needs the orders and fills after that seq. One statement.
    """
    with connection.cursor() as cursor:
        cursor.execute(VERIFIED_TO)
        return dict(cursor.fetchall())
