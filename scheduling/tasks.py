"""Tasks that django-q2 runs. Each is short: the modules that it calls do the work."""

from __future__ import annotations

from scheduling.enact.pass_lock import pass_lock
from scheduling.scheduler import LOCK_WAIT_S, Scheduler


def balance() -> str:
    """Run one full tick.

    Wait for the lock: the sweep, scheduled for the same second, may hold it, and without a watcher
    the next attempt would be 30 s later.
    """
    outcome = Scheduler("worker").tick(lock_wait_s=LOCK_WAIT_S)
    if not outcome.ran or outcome.balance is None:
        return "another pass was under way"
    return f"{len(outcome.balance.requested)} handoffs requested"


def heartbeat_sweep() -> str:
    """Run a full sweep, without a plan.

    Then, without the pass lock, release records of feeds in JetStream whose appending process did
    not release them. That has no schedule of its own: see `install_schedules`.
    """
    from scheduling.recorded_feeds.stream_appends import follow_streams

    scheduler = Scheduler("worker")
    done = "another pass was under way"
    with pass_lock(scheduler.holder) as held:
        if held:
            done = f"lost: {', '.join(scheduler.check_heartbeat().lost) or 'none'}"
    failed = follow_streams()
    return f"{done}; feeds not followed: {', '.join(failed)}" if failed else done


def prune() -> str:
    """Attach partitions ahead and delete old rows; archive old partitions in a separate process."""
    from scheduling.retention import prune as prune_old

    return prune_old()


def deliver_alerts() -> str:
    """Send the messages about alerts that are due."""
    from scheduling.alert_delivery import deliver

    return f"{deliver()} delivered"


def verify_in_background() -> str:
    """Request verifications of portfolios not verified for long, so that each stays short."""
    from scheduling.verification.background import request_due_verifications

    return f"{request_due_verifications()} requested"


def verify() -> str:
    """Run the waiting verifications in a process that the task's time limit does not end."""
    from scheduling.verification.runner import start_runner

    return f"process {start_runner()} runs the waiting verifications"


def refused(func: str, why: str) -> None:
    """Run in place of a task that the queue must not run: record the refusal and fail."""
    from scheduling.task_registry import refuse

    refuse(func, why)
