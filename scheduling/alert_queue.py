"""Ask the queue worker to deliver messages about alerts, so that no pass waits for a service."""

from __future__ import annotations


def wake_delivery() -> None:
    """Have the queue worker send the messages that are due, within a second or two."""
    from django_q.tasks import async_task  # it loads models, so the apps must be ready

    async_task("scheduling.tasks.deliver_alerts", task_name="deliver alerts")
